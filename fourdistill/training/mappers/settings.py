"""The settings of a training run: plain values, and presets that override them."""

from dataclasses import dataclass
from typing import Any

from fourdistill.errors import InputError

LOSSES = ("distill", "ddpm")  # target: the U-Net's output given the predicted image; or the true target


@dataclass(frozen=True)
class DropoutRates:
    """How often each condition is dropped independently, and how often all are dropped together.

    The prior's prediction then uses only the remaining displacement; without a prior, guidance needs such samples.
    `bypass` is how often a sample's words stay closer to CLIP's space than with the adapter's own lambda: half of these
    samples have lambda 0, the others a lambda in between. So the words learn to use CLIP's space.
    """

    text: float = 0.1
    image: float = 0.0
    time: float = 0.1
    view: float = 0.1
    all: float = 0.0
    bypass: float = 0.5


@dataclass(frozen=True)
class TrainingSettings:
    """The settings of the training loop; `seed` determines every random choice."""

    seed: int = 0
    batch_size: int = 32  # per step, over all processes
    micro_batches: int | None = None  # number of parts of a batch, over all processes; None: one per process
    max_steps: int = 1000
    loss: str = "distill"  # one of LOSSES
    learning_rate: float = 1e-3
    lr_scheduler: str = "cosine"  # a name of diffusers' get_scheduler
    warmup_steps: int = 50
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    timestep_bias: float = 0.0  # 0: uniform; b: density of t/T proportional to (t/T)^b, favours high noise
    dropout: DropoutRates = DropoutRates()
    log_every: int = 10  # steps
    validate_every: int = 250
    sample_every: int = 500
    checkpoint_every: int = 100
    keep_checkpoints: int = 1
    num_val_pairs: int = 64
    gap_timesteps: tuple[int, ...] = (500, 700, 900)  # the noise levels of the condition gaps
    num_workers: int = 0
    mixed_precision: str = "no"  # one of PRECISIONS in models/base/precision.py
    gradient_checkpointing: bool = False  # compute the U-Net's activations twice instead of keeping them
    compile: str | None = None  # a backend of torch.compile for the U-Net

    def __post_init__(self):
        if self.loss not in LOSSES:
            raise InputError(f"train: loss: expected one of {', '.join(LOSSES)}, got {self.loss!r}")


# A preset's values go over those of the params section. `original` is the original code's setting, at lambda 0.2: one
# word that tells the displacement alone, of its size and bandwidths and learning rate; the DDPM loss; no condition
# dropout, uniform timesteps, a constant learning rate. (Its nested dropout is not here: it changed nothing measurable.)
PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "original": {
        "start": "scratch",
        "mapper_input": "displacement",
        "num_words": 1,
        "loss": "ddpm",
        "num_frequencies": 32,
        "hidden_width": 64,
        "sigma_time": 1.0,
        "sigma_timesteps": 0.03,
        "sigma_layer": 2.0,
        "learning_rate": 9e-3,
        "dropout": DropoutRates(0, 0, 0, 0, 0, 0),
        "timestep_bias": 0.0,
        "lr_scheduler": "constant",
        "warmup_steps": 0,
    },
}


def apply_preset(preset: str, values: dict[str, Any]) -> dict[str, Any]:
    """`values` overridden by those of a preset; raises `InputError` for an unknown preset."""
    if preset not in PRESETS:
        raise InputError(f"train: preset: expected one of {', '.join(PRESETS)}, got {preset!r}")
    return values | PRESETS[preset]
