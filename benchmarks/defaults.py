"""Untrained adapters and priors of the architectures that `params.yaml` names."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from fourdistill.models.adapter_config import AdapterSettings
from fourdistill.models.prior import DisplacementPrior, PriorConfig
from fourdistill.params import load_params

PARAMS = load_params(Path(__file__).parents[1] / "params.yaml")


def default_settings(**changes: Any) -> AdapterSettings:
    """The settings of an adapter, with some values replaced."""
    displacement = PARAMS.displacement
    values = {
        **asdict(PARAMS.train.mappers),
        "lambda_": PARAMS.lambda_,
        "view_encoding": displacement.view_encoding,
        "max_gap_s": displacement.max_gap_s,
        "sampling": PARAMS.train.sampling,
    }
    return AdapterSettings(**values | changes)


def default_prior(num_tokens: int, embeds_width: int, generator: torch.Generator) -> DisplacementPrior:
    """A prior of random weights for image embeddings (num_tokens, embeds_width)."""
    settings = PARAMS.train_prior
    config = PriorConfig(
        **asdict(settings.network),
        num_tokens=num_tokens,
        embeds_width=embeds_width,
        num_components=settings.codec.num_components,
        view_encoding=PARAMS.displacement.view_encoding,
    )
    return DisplacementPrior(config, generator)
