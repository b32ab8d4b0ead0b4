"""What a training run is told: plain values, and presets over them."""

from dataclasses import dataclass
from typing import Any

from fourdistill.errors import InputError

LOSSES = ("distill", "ddpm")  # against what the U-Net says when it is shown what the words tell; against the truth


@dataclass(frozen=True)
class DropoutRates:
    """How often each condition is dropped, independently of the others, and how often all of them are.

    A prior is asked anew for what is left of the displacement; guidance needs such samples where there is none.
    And how often the words of a sample keep nearer to CLIP's space than at the adapter's own lambda: half of these keep
    within it, at lambda 0, the others at some lambda between. They learn to say what can be said there.
    """

    text: float = 0.1
    image: float = 0.0
    time: float = 0.1
    view: float = 0.1
    all: float = 0.0
    bypass: float = 0.5


@dataclass(frozen=True)
class TrainingSettings:
    """The knobs of the training loop; every random choice follows from `seed`."""

    seed: int = 0
    batch_size: int = 32  # of a step, over all processes
    micro_batches: int | None = None  # parts that a batch is computed in, over all processes; None: one per process
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
    mixed_precision: str = "no"  # one of PRECISIONS in models/precision.py
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
    """`values` with those of a preset over them; raises `InputError` for an unknown preset."""
    if preset not in PRESETS:
        raise InputError(f"train: preset: expected one of {', '.join(PRESETS)}, got {preset!r}")
    return values | PRESETS[preset]
