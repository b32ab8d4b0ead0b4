"""The settings of the prior's training."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PriorSettings:
    """The settings of the prior's training; `seed` determines every random choice."""

    seed: int = 0
    mirror: bool = True  # train on mirror images too, and ...
    recolour: bool = False  # ... on frames with permuted colour channels
    start_share: float = 0.0  # share of the pretrained prior's initial weights in the saved average
    codec_embeds: int = 4096  # number of image embeddings for fitting the codec
    num_components: int = 384  # of the codes
    batch_size: int = 512
    max_steps: int = 2000
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    max_sources: int = 1  # source images per sample: drawn from 1 to this number at each step
    source_noise: float = 0.1  # noise added to the source's codes, against overfitting
    log_every: int = 50  # steps
    validate_every: int = 500
    checkpoint_every: int = 500
    keep_checkpoints: int = 1
    num_val_pairs: int = 512
    mixed_precision: str = "no"  # one of PRECISIONS in models/base/precision.py
