"""Reader of UCF-101 (Soomro et al. 2012): short films of actions, with nothing known about the cameras.

::

    <folder>/<Action>/v_<Action>_g01_c01.avi        or in UCF-101/; g: the group, one performer; c: the clip of it
    <folder>/ucfTrainTestlist/trainlist01.txt ...   optional: lists 01 are the split

One scene per film, named after it without `v_`, with one camera `cam00`: the clips of a group are takes, not views.
The caption is the action in words. Films that lists exist for but do not name are left out.
"""

import re
from pathlib import Path

from fourdistill.data.readers.listing import list_videos
from fourdistill.data.readers.parsing import read_text
from fourdistill.data.readers.posed_pictures import ONLY_CAMERA
from fourdistill.data.scene import Scene, Video
from fourdistill.errors import InputError

_NAME = re.compile(r"v_(?P<action>[A-Za-z]+)_g(?P<group>\d{2})_c(?P<clip>\d{2})")
_LISTS = "ucfTrainTestlist"


def read_ucf101(folder: Path) -> list[Scene]:
    """One scene per film of the form `v_<Action>_gXX_cYY`."""
    films_dir = folder / "UCF-101" if (folder / "UCF-101").is_dir() else folder
    splits = _read_lists(folder / _LISTS) if (folder / _LISTS).is_dir() else None
    scenes = []
    for action in sorted(path for path in films_dir.iterdir() if path.is_dir() and path.name != _LISTS):
        for path in list_videos(action):
            named = _NAME.fullmatch(path.stem)
            if named is None:
                raise InputError(f"{path}: expected a name of the form v_<Action>_gXX_cYY")
            split = None if splits is None else splits.get(path.stem)
            if splits is not None and split is None:
                continue
            words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", named["action"]).lower()
            name = path.stem.removeprefix("v_")
            scenes.append(Scene(name, (Video(ONLY_CAMERA, path),), f"a person doing {words}", split))
    if not scenes:
        raise InputError(f"{films_dir}: expected films <Action>/v_<Action>_gXX_cYY.avi, found none")
    return scenes


def _read_lists(folder: Path) -> dict[str, str]:
    """Stem of a film => train or test, by lists 01."""
    splits: dict[str, str] = {}
    for split in ("train", "test"):
        path = folder / f"{split}list01.txt"
        if not path.is_file():
            raise InputError(f"{path}: expected a list of films, found none")
        for line in read_text(path, "a list of films").splitlines():
            if words := line.split():
                stem = words[0].replace("\\", "/").rsplit("/", 1)[-1].rsplit(".", 1)[0]
                if splits.setdefault(stem, split) != split:
                    raise InputError(f"{path}: {stem}: expected it in one list, found it in both")
    return splits
