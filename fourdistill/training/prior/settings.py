"""What the prior's training is told: plain values."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PriorSettings:
    """The knobs of the prior's training; every random choice follows from `seed`."""

    seed: int = 0
    mirror: bool = True  # train on mirror images too, and ...
    recolour: bool = False  # ... on frames whose colour channels have changed places
    start_share: float = 0.0  # of the weights that a pretrained prior began with, in the average that is saved
    codec_embeds: int = 4096  # image embeddings that the codec is fitted to
    num_components: int = 384  # of the codes
    batch_size: int = 512
    max_steps: int = 2000
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    max_sources: int = 1  # condition images of a sample: from 1 to this many, drawn for each step
    source_noise: float = 0.1  # added to the source's codes, against overfitting
    log_every: int = 50  # steps
    validate_every: int = 500
    checkpoint_every: int = 500
    keep_checkpoints: int = 1
    num_val_pairs: int = 512
    mixed_precision: str = "no"  # one of PRECISIONS in models/precision.py
