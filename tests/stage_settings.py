"""Settings of stages in tests: the repository's own parameters with some values replaced."""

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass, replace
from functools import lru_cache
from typing import Any

from imports import ROOT

from fourdistill.frames.splits import SplitRule
from fourdistill.models.adapter_config import AdapterSettings
from fourdistill.models.prior import PriorConfig
from fourdistill.models.settings import AS_TRAINED
from fourdistill.pairs.settings import BuildPairs, Kinds, NumPairs
from fourdistill.params import Params, load_params


def settings_of(section: str, **values: Any) -> Any:
    """A section of the repository's `params.yaml` with some values replaced; an unknown key is an error.

    A mapping replaces values of a section within it, and leaves the others; a name that only one section within has
    does without the mapping.
    """
    return _replaced(getattr(_params(), section), values)


@lru_cache
def _params() -> Params:
    """Read once: they are frozen, and some tests use them hundreds of times."""
    return load_params(ROOT / "params.yaml")


def _replaced(section: Any, values: Mapping[str, Any]) -> Any:
    direct: dict[str, Any] = {}
    for key, value in values.items():
        if key not in vars(section):
            (within,) = (name for name, part in vars(section).items() if _has(part, key))
            key, value = within, {key: value}
        before = direct.get(key, getattr(section, key))
        direct[key] = _replaced(before, value) if isinstance(value, dict) else value
    return replace(section, **direct)


def _has(part: Any, key: str) -> bool:
    return is_dataclass(part) and (key in vars(part) or any(_has(each, key) for each in vars(part).values()))


def changed(section: Any, **values: Any) -> Any:
    """A section with some values replaced, as in `settings_of`."""
    return _replaced(section, values)


def train_settings(**values: Any) -> Any:
    """`train` from scratch on the processor, in the plainest number format."""
    return changed(settings_of("train", start="scratch", compute={"mixed_precision": "no"}), **values)


def prior_settings(**values: Any) -> Any:
    """`train_prior` from scratch on the processor, in the plainest number format."""
    return changed(settings_of("train_prior", start="scratch", mixed_precision="no"), **values)


def adapter_settings(**values: Any) -> AdapterSettings:
    """An adapter's settings, with some values replaced."""
    params = _params()
    others = {"lambda_": params.lambda_, "view_encoding": params.displacement.view_encoding, "max_gap_s": None}
    others["sampling"] = AS_TRAINED
    return AdapterSettings(**{**asdict(params.train.mappers), **others, **values})


def prior_config(num_tokens: int, embeds_width: int, **values: Any) -> PriorConfig:
    """A prior's configuration for image embeddings (num_tokens, embeds_width), with some values replaced."""
    section = _params().train_prior
    others = {"num_components": section.codec.num_components, "view_encoding": "spherical"}
    network = asdict(section.network) | others | values
    return PriorConfig(**network, num_tokens=num_tokens, embeds_width=embeds_width)


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
