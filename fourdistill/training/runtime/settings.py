"""The settings that all trainings share: their optimizer, their logs and their checkpoints."""

from typing import Literal

from pydantic.dataclasses import dataclass

from fourdistill.config import STRICT, Count, NonNegativeFloat, PositiveFloat, PositiveInt

Precision = Literal["auto", "no", "bf16", "fp16"]


@dataclass(frozen=True, config=STRICT)
class Optimizer:
    """AdamW, and its learning rate over the steps."""

    learning_rate: PositiveFloat
    lr_scheduler: Literal["constant", "constant_with_warmup", "cosine", "linear"]  # names of diffusers' get_scheduler
    warmup_steps: Count
    weight_decay: NonNegativeFloat
    max_grad_norm: PositiveFloat


@dataclass(frozen=True, config=STRICT)
class Logging:
    """How often a training is logged and validated, in steps."""

    every: PositiveInt
    validate_every: PositiveInt
    num_val_pairs: Count


@dataclass(frozen=True, config=STRICT)
class Checkpointing:
    """How often the state is saved, and where copies go."""

    every: PositiveInt  # steps
    keep: PositiveInt  # the newest ones
    address: str | None  # an fsspec address for copies; None: only beside the result
