"""Settings of stages in tests: the repository's own parameters with some values replaced."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from imports import ROOT

from fourdistill.frames.splits import SplitRule
from fourdistill.pairs.settings import BuildPairs, Kinds, NumPairs
from fourdistill.params import Params, load_params


def settings_of(section: str, **values: Any) -> Any:
    """A section of the repository's `params.yaml` with some values replaced; an unknown key is an error.

    A mapping replaces values of a nested section and keeps the others.
    """
    return _replaced(getattr(_params(), section), values)


@lru_cache
def _params() -> Params:
    """Read once: they are frozen, and some tests use them hundreds of times."""
    return load_params(ROOT / "params.yaml")


def _replaced(section: Any, values: Mapping[str, Any]) -> Any:
    nested = {key: _replaced(getattr(section, key), value) for key, value in values.items() if isinstance(value, dict)}
    return replace(section, **{**values, **nested})


def split_rule(**held_out: Any) -> SplitRule:
    """A rule that holds out only what is given."""
    nothing = SplitRule(test_scenes=[], val_scenes=[], test_cameras=[], test_times=[], held_out_in=None)
    return replace(nothing, **held_out)


def frame_settings(**values: Any) -> Any:
    """`extract_frames` in one process, with nothing held out by default."""
    return settings_of("extract_frames", **{"split": split_rule(), "jobs": 1} | values)


def pair_settings(num_pairs: Mapping[str, int], kinds: Mapping[str, float], **values: Any) -> BuildPairs:
    """`build_pairs` only for the given splits and kinds."""
    wanted = NumPairs(**{"train": 0, "val": 0, "test": 0} | dict(num_pairs))
    shares = Kinds(**{"time": 0.0, "view": 0.0, "joint": 0.0} | dict(kinds))
    return settings_of("build_pairs", num_pairs=wanted, kinds=shares, **values)
