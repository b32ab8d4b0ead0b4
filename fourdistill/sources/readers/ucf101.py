"""Reader of UCF-101 (Soomro et al. 2012): short films of actions, with unknown cameras.

::

    <folder>/<Action>/v_<Action>_g01_c01.avi        or in UCF-101/; g: the group (one performer); c: its clip
    <folder>/ucfTrainTestlist/trainlist01.txt ...   optional: lists 01 define the split

One scene per film, named after it without `v_`, with one camera `cam00`: the clips of a group are takes, not views.
The caption is the action in words. If there are lists, films that they do not name are left out and counted; listed
films that are missing are counted too. Names are compared without regard to case.
"""

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath

from fourdistill.errors import InputError
from fourdistill.scene import LeftOut, Scene, Video
from fourdistill.sources.formats import Format
from fourdistill.sources.names import canonical
from fourdistill.sources.readers.listing import list_videos, marked_by, visible
from fourdistill.sources.readers.parsing import read_text
from fourdistill.sources.readers.posed_pictures import ONLY_CAMERA

_NAME = re.compile(r"v_(?P<action>[A-Za-z]+)_g(?P<group>\d{2})_c(?P<clip>\d{2})")
_LISTS = "ucfTrainTestlist"


def read_ucf101(folder: Path) -> list[Scene]:
    """One scene per film named `v_<Action>_gXX_cYY`."""
    films_dir = folder / "UCF-101" if (folder / "UCF-101").is_dir() else folder
    actions = [path for path in visible(films_dir) if path.is_dir() and path.name != _LISTS]
    videos = [path for action in actions for path in list_videos(action)]
    named = [(path, found) for path in videos if (found := _NAME.fullmatch(path.stem))]
    listed = _read_lists(folder / _LISTS) if (folder / _LISTS).is_dir() else None
    scenes = []
    for path, found in named:
        split = listed.pop(_key(path.stem), None) if listed else None
        if listed is None or split is not None:
            words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", found["action"]).lower()
            video = Video(ONLY_CAMERA, path)
            scenes.append(Scene(path.stem.removeprefix("v_"), (video,), f"a person doing {words}", split))
    if not scenes:
        raise InputError(f"{films_dir}: expected films <Action>/v_<Action>_gXX_cYY.avi, found none")
    if listed:
        gone = LeftOut("film of a list that is not there", len(listed), min(listed))
        scenes[0] = replace(scenes[0], left_out=(gone,))
    return scenes


def _key(stem: str) -> str:
    """The key to match films with lists: the published files spell HandStandPushups in two ways."""
    return canonical(stem).casefold()


def _read_lists(folder: Path) -> dict[str, str]:
    """Key of a film => train or test, from lists 01."""
    splits: dict[str, str] = {}
    for split in ("train", "test"):
        path = folder / f"{split}list01.txt"
        if not path.is_file():
            raise InputError(f"{path}: expected a list of films, found none")
        for line in read_text(path, "a list of films").splitlines():
            if words := line.split():
                stem = PurePosixPath(canonical(words[0])).stem
                if splits.setdefault(_key(stem), split) != split:
                    raise InputError(f"{path}: {stem}: expected it in one list, found it in both")
    return splits


FORMAT = Format(read_ucf101, marked_by("v_*_g[0-9][0-9]_c[0-9][0-9].*", "UCF-101"))
