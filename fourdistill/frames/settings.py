"""The parameters of the stage `extract_frames`."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from fourdistill.config import STRICT, Fraction, Jobs, PositiveInt
from fourdistill.frames.splits import SplitRule


@dataclass(frozen=True, config=STRICT)
class ExtractFrames:
    """Extraction of square JPEG frames and the frames table from raw videos."""

    size: PositiveInt  # pixels, after a centre crop to a square
    jpeg_quality: Annotated[int, Field(ge=1, le=31)]  # ffmpeg's -q:v, 1 is best
    max_frames: PositiveInt | None  # per video
    ffmpeg: str | None
    split: SplitRule
    engine: Literal["loky", "ray"]
    jobs: Jobs  # -1: one per core
    max_bad_fraction: Fraction
