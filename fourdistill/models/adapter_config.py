"""An adapter's configuration: its settings, the facts of its base, and `config.json`."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass

from fourdistill.config import STRICT, NonNegativeFloat, PositiveFloat, describe_fault
from fourdistill.errors import InputError
from fourdistill.models.attention import cross_attention_names
from fourdistill.models.base.folder import describe_folder, read_json
from fourdistill.models.base.model import BaseModel
from fourdistill.models.base.projectors import is_original
from fourdistill.models.base.text import each_encoder, text_encoders_of
from fourdistill.models.prior import PriorConfig
from fourdistill.models.settings import AS_TRAINED, MapperSettings, Sampling, ViewEncoding

FORMAT_VERSION = 4  # in version 3, times had the opposite sign: `Adapter.load` converts such weights
READABLE = (3, 4)


@pydantic_dataclass(frozen=True, config=STRICT)
class AdapterSettings(MapperSettings):
    """Choices about an adapter's architecture; the rest of its configuration is read from the base."""

    lambda_: NonNegativeFloat  # of equation (1)
    view_encoding: ViewEncoding
    max_gap_s: PositiveFloat | None  # seconds per unit of time displacement; None: a unit is the whole scene
    sampling: Sampling


@dataclass(frozen=True)
class BaseFacts:
    """The properties of a base that an adapter depends on."""

    layer_names: list[str]  # cross-attention modules in execution order
    layer_widths: list[int]  # inner width of each layer
    cross_attention_dim: int
    text_width: int  # of all text encoders together
    token_std: float = field(compare=False)  # of the text encoders' token embeddings
    image_embeds_width: int  # of what the image prompt reads
    num_train_timesteps: int
    prediction_type: str

    @classmethod
    def of(cls, base: BaseModel, projector: dict[str, int]) -> "BaseFacts":
        """Read the facts from a loaded base; `projector` has the sizes of the image prompt's."""
        names = cross_attention_names(base.unet)
        encoders = each_encoder(text_encoders_of(base))
        embeddings = [encoder.get_input_embeddings().weight for encoder in encoders]
        spread = embeddings[0].std() if len(embeddings) == 1 else torch.cat([e.flatten() for e in embeddings]).std()
        vision = base.image_encoder.config
        return cls(
            layer_names=names,
            layer_widths=[base.unet.get_submodule(f"{name}.to_k").out_features for name in names],  # type: ignore[misc]
            cross_attention_dim=base.unet.config["cross_attention_dim"],
            text_width=sum(encoder.config.hidden_size for encoder in encoders),
            token_std=round(spread.item(), 6),
            image_embeds_width=vision.projection_dim if is_original(projector) else vision.hidden_size,  # type: ignore
            num_train_timesteps=base.scheduler.config.num_train_timesteps,
            prediction_type=base.scheduler.config.prediction_type,
        )


@dataclass(frozen=True)
class AdapterConfig:
    """The content of `config.json`: base and its facts, projector sizes, settings, prior configuration, training."""

    base: str
    base_facts: BaseFacts
    projector: dict[str, int]  # see `projector_sizes`
    settings: AdapterSettings
    prior: PriorConfig | None = None
    training: dict[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION


def read_config(path: Path) -> AdapterConfig:
    """Parse `config.json`; raises `InputError` naming the file and what was expected."""
    if path.parent.is_dir() and not path.exists():
        raise InputError(f"{path}: expected an adapter's configuration, found {describe_folder(path.parent)}")
    raw = read_json(path, str(path), "an adapter's configuration")
    if "base_facts" not in raw:
        raise InputError(f"{path}: expected an adapter's configuration, found that of {describe_folder(path.parent)}")
    try:
        if raw["format_version"] not in READABLE:
            expected = " or ".join(map(str, READABLE))
            raise InputError(f"{path}: format_version: expected {expected}, got {raw['format_version']}")
        raw["base_facts"] = BaseFacts(**raw["base_facts"])
        settings = {"rank": None, "sampling": asdict(AS_TRAINED), **raw["settings"]}  # older adapters lack these
        settings["sampling"] = Sampling(**settings["sampling"])
        raw["settings"] = AdapterSettings(**settings)
        raw["prior"] = raw["prior"] and PriorConfig(**raw["prior"])
        return AdapterConfig(**raw)
    except ValidationError as error:
        raise InputError(f"{path}: expected an adapter's configuration: {describe_fault(error)}") from error
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: expected an adapter's configuration: {error}") from error


def check_base(path: Path, config: AdapterConfig, base: BaseModel) -> None:
    """Raise `InputError` naming the first value in which a base differs from the adapter's training base."""
    theirs = BaseFacts.of(base, config.projector)
    for fact in fields(BaseFacts):
        wanted, found = getattr(config.base_facts, fact.name), getattr(theirs, fact.name)
        if wanted == found or not fact.compare:
            continue
        if isinstance(wanted, list) and len(wanted) != len(found):
            wanted, found = f"{len(wanted)} layers", f"{len(found)}"
        raise InputError(
            f"{path}: {fact.name}: the adapter was trained on a base ({config.base}) with {wanted}, "
            f"but the base {base.name} has {found}"
        )
