"""Reader of plain videos, one scene each, with nothing known about the cameras: only time pairs come of them.

::

    <folder>/<scene>.mp4     or .avi .m4v .mkv .mov .mpg .webm
             <scene>.txt     optional caption
"""

from pathlib import Path

from fourdistill.data.readers.listing import list_videos, read_caption
from fourdistill.data.scene import Scene, Video
from fourdistill.errors import InputError

CAMERA_ID = "cam00"


def read_videos(folder: Path) -> list[Scene]:
    """One scene per video, named after its file, with one camera `cam00`."""
    paths = list_videos(folder)
    if not paths:
        raise InputError(f"{folder}: expected video files (.mp4, .mkv, .avi, ...), found none")
    return [Scene(path.stem, (Video(CAMERA_ID, path),), read_caption(path.with_suffix(".txt"))) for path in paths]
