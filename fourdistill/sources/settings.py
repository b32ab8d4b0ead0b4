"""The parameters of one source of raw data."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from fourdistill.config import STRICT, Color, PositiveFloat


@dataclass(frozen=True, config=STRICT)
class Source:
    """One folder of raw data, `<paths.raw>/<name>`, and its reader."""

    name: str
    format: str
    prefix: Annotated[str, Field(pattern=r"^[\w-]*$")] = ""  # added to its scene names, if sources share some
    poses: Literal["read", "estimate"] = "read"  # estimate: see the stage estimate_poses
    fps: PositiveFloat | None = None  # frames to keep per second; null: all
    duration_s: PositiveFloat | None = None  # of a scene, for formats without a clock; null: a nominal second
    background: Color = "white"  # colour behind transparent pixels
