"""The parameters of the stage `build_pairs`, and those of displacements, which later stages share."""

from typing import Literal

from pydantic import model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from fourdistill.config import STRICT, Count, NonNegativeFloat, PositiveFloat, PositiveInt


@dataclass(frozen=True, config=STRICT)
class NumPairs:
    """How many pairs each split gets."""

    train: Count  # zero: data for evaluation only
    val: Count
    test: Count


@dataclass(frozen=True, config=STRICT)
class Kinds:
    """Proportions of the three kinds of pair; they need not add up to one."""

    time: NonNegativeFloat
    view: NonNegativeFloat
    joint: NonNegativeFloat


@dataclass(frozen=True, config=STRICT)
class BuildPairs:
    """Frames table to pairs table."""

    num_pairs: NumPairs
    kinds: Kinds
    bidirectional: bool


@dataclass(frozen=True, config=STRICT)
class DisplacementSettings:
    """The units of displacements: the same for pairs, training and evaluation."""

    normalizer: Literal["scene", "seconds"]
    max_gap: PositiveInt | None  # frames
    max_gap_s: PositiveFloat | None  # the divisor of normalizer: seconds
    view_encoding: Literal["spherical", "matrix"]

    @model_validator(mode="after")
    def _divisor_fits(self) -> "DisplacementSettings":
        if (self.normalizer == "seconds") != (self.max_gap_s is not None):
            raise PydanticCustomError("divisor", "max_gap_s: null for normalizer scene, seconds for normalizer seconds")
        return self
