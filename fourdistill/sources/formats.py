"""The formats of raw data: one line each, and one module of `sources/readers/`.

A line says where the module's `FORMAT` is, which is imported when it is asked for: the readers take a second to import,
and the command line lists their names.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fourdistill.scene import Scene


@dataclass(frozen=True)
class Format:
    """How a folder of one format is recognised, and read."""

    read: Callable[[Path], "list[Scene]"]
    """A folder => its scenes, at least one; raises `InputError`. Touches no pixels."""
    is_in: Callable[[Path], bool]
    """Whether a folder, or one of the folders in it, has what only this format has."""


FORMATS = {
    "nerfstudio": "fourdistill.sources.readers.nerfstudio:FORMAT",
    "dnerf": "fourdistill.sources.readers.dnerf:FORMAT",
    "nerfies": "fourdistill.sources.readers.nerfies:FORMAT",
    "dynerf": "fourdistill.sources.readers.dynerf:FORMAT",
    "qualisys": "fourdistill.sources.readers.qualisys:FORMAT",
    "colmap": "fourdistill.sources.readers.colmap:FORMAT",
    "ucf101": "fourdistill.sources.readers.ucf101:FORMAT",
    "realestate10k": "fourdistill.sources.readers.realestate10k:FORMAT",
    "video": "fourdistill.sources.readers.video:FORMAT",
}
"""Name => place. `find_format` takes the first that is in a folder, so the order counts: a nerfstudio folder often has
the COLMAP model that it was made from, and any folder may be read as plain films."""
NAMES = ", ".join(sorted(FORMATS))


def load_format(name: str) -> Format:
    """The format of a name, its reader imported; raises `KeyError` where there is none."""
    return resolve_name(FORMATS[name])
