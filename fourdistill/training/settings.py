"""What a training run is told: plain values, and presets over them."""

from dataclasses import dataclass
from typing import Any

from fourdistill.errors import InputError
from fourdistill.models.adapter import TRAINABLE


@dataclass(frozen=True)
class DropoutRates:
    """How often each condition is dropped, independently of the others, and how often all of them are."""

    text: float = 0.1
    image: float = 0.05
    time: float = 0.1
    view: float = 0.1
    all: float = 0.05


@dataclass(frozen=True)
class TrainingSettings:
    """The knobs of the training loop; every random choice follows from `seed`."""

    seed: int = 0
    batch_size: int = 32  # of a step, over all processes
    micro_batches: int | None = None  # parts that a batch is computed in, over all processes; None: one per process
    max_steps: int = 1000
    trainable: tuple[str, ...] = ("mappers",)  # groups of parameters, see `Adapter.parameter_groups`
    learning_rate: float = 1e-3  # of the mappers
    image_prompt_learning_rate: float = 3e-4  # of the image prompt and its displacement tokens
    lora_learning_rate: float = 3e-4
    lr_scheduler: str = "cosine"  # a name of diffusers' get_scheduler
    warmup_steps: int = 50
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    timestep_bias: float = 0.0  # 0: uniform; b: density of t/T proportional to (t/T)^b, favours high noise
    dropout: DropoutRates = DropoutRates()
    nested_dropout: float = 0.0  # how often a sample keeps only the first of the mappers' hidden units
    log_every: int = 10  # steps
    validate_every: int = 250
    sample_every: int = 500
    checkpoint_every: int = 100
    keep_checkpoints: int = 1
    num_val_pairs: int = 64
    gap_timesteps: tuple[int, ...] = (500, 700, 900)  # the noise levels of the condition gaps
    num_workers: int = 0
    mixed_precision: str = "no"  # one of PRECISIONS in models/precision.py
    gradient_checkpointing: bool = False  # compute the U-Net's activations twice instead of keeping them
    compile: str | None = None  # a backend of torch.compile for the U-Net

    def __post_init__(self):
        unknown = sorted(set(self.trainable) - set(TRAINABLE))
        if unknown or not self.trainable:
            raise InputError(f"train: trainable: expected some of {', '.join(TRAINABLE)}, got {list(self.trainable)}")


# A preset's values go over those of the params section. `seed` is the original's setting: mappers only, of its size and
# bandwidths and learning rate, with nested dropout; an image prompt that knows no displacement; the bypass scaled by
# |CLIP(v_base)|; no condition dropout, uniform timesteps, a constant learning rate.
PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "seed": {
        "trainable": ("mappers",),
        "bypass_norm": "base",
        "clip_base": True,
        "rescale_base": False,
        "key_value_split": False,
        "displacement_tokens": 0,
        "lora_rank": 0,
        "prior": False,
        "num_frequencies": 32,
        "hidden_width": 64,
        "sigma_time": 1.0,
        "sigma_timesteps": 0.03,
        "sigma_layer": 2.0,
        "nested_dropout": 0.5,
        "learning_rate": 9e-3,
        "dropout": DropoutRates(0, 0, 0, 0, 0),
        "timestep_bias": 0.0,
        "lr_scheduler": "constant",
        "warmup_steps": 0,
    },
}


def apply_preset(preset: str, values: dict[str, Any]) -> dict[str, Any]:
    """`values` with those of a preset over them; raises `InputError` for an unknown preset."""
    if preset not in PRESETS:
        raise InputError(f"train: preset: expected one of {', '.join(PRESETS)}, got {preset!r}")
    return values | PRESETS[preset]
