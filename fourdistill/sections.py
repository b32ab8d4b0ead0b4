"""The sections of `params.yaml` as frozen dataclasses; `config.py` reads them. There are no defaults here."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from fourdistill.value_types import (
    Color,
    Count,
    Fraction,
    Interval,
    Jobs,
    LocalPath,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
)

# Strict: "12" is not a number, and 1 is not a switch. NaN and infinity never get in.
STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, config=STRICT)
class Paths:
    """Where the stages read and write, relative to the working directory."""

    raw: LocalPath
    poses_table: LocalPath
    frames: str  # a local folder, or an fsspec address such as s3://bucket/frames
    frames_table: LocalPath
    scenes_table: LocalPath
    pairs_table: LocalPath
    features: str  # likewise
    shards: str  # likewise
    base: str  # a local folder or a Hub id
    pretrained: LocalPath  # an adapter, or a prior, from which the prior's training starts
    prior: LocalPath
    live_prior: LocalPath  # DVCLive's logs of the prior's training
    adapter: LocalPath
    live: LocalPath  # DVCLive's logs of the training
    metrics: LocalPath
    plots: LocalPath
    reports: LocalPath


@dataclass(frozen=True, config=STRICT)
class Source:
    """One folder of raw data, `<paths.raw>/<name>`, and the reader that understands it."""

    name: str
    format: str
    prefix: Annotated[str, Field(pattern=r"^[\w-]*$")] = ""  # of its scenes' names, where sources share some
    poses: Literal["read", "estimate"] = "read"  # estimate: see the stage estimate_poses
    fps: PositiveFloat | None = None  # frames to keep per second; null: all
    duration_s: PositiveFloat | None = None  # of a scene, for formats without a clock; null: one second, in name only
    background: Color = "white"  # what transparent pixels show


@dataclass(frozen=True, config=STRICT)
class Split:
    """What is held out of training: whole scenes, cameras, and intervals of normalised time."""

    test_scenes: list[str]
    val_scenes: list[str]
    test_cameras: list[str]
    test_times: list[Interval]
    held_out_in: list[str] | None  # the scenes that lose these cameras and times; null: all


@dataclass(frozen=True, config=STRICT)
class EstimatePoses:
    """Poses of the films of sources with `poses: estimate`, by structure from motion."""

    size: PositiveInt  # pixels, the longer side of the pictures that it works on
    max_pictures: PositiveInt  # of each film, at even distances


@dataclass(frozen=True, config=STRICT)
class ExtractFrames:
    """Raw videos to square JPEG frames and the frames table."""

    sources: Annotated[list[Source], Field(min_length=1)]
    size: PositiveInt  # pixels, after a centre crop to a square
    jpeg_quality: Annotated[int, Field(ge=1, le=31)]  # ffmpeg's -q:v, 1 is best
    max_frames: PositiveInt | None  # per video
    ffmpeg: str | None
    split: Split
    engine: Literal["loky", "ray"]
    jobs: Jobs  # -1: one per core
    max_bad_fraction: Fraction


@dataclass(frozen=True, config=STRICT)
class NumPairs:
    """How many pairs each split gets."""

    train: Count  # none: data to evaluate on, not to train on
    val: Count
    test: Count


@dataclass(frozen=True, config=STRICT)
class Kinds:
    """Proportions of the three kinds of pair; they need not add up to one."""

    time: NonNegativeFloat
    view: NonNegativeFloat
    joint: NonNegativeFloat


@dataclass(frozen=True, config=STRICT)
class BuildPairs:
    """Frames table to pairs table."""

    num_pairs: NumPairs
    kinds: Kinds
    bidirectional: bool
    max_gap: PositiveInt | None  # frames
    normalizer: Literal["scene", "seconds"]
    max_gap_s: PositiveFloat | None  # the divisor of normalizer: seconds


@dataclass(frozen=True, config=STRICT)
class EncodeFrames:
    """Frames to VAE latents and image embeddings, once per frame."""

    batch_size: PositiveInt
    mixed_precision: Literal["auto", "no", "bf16", "fp16"]
    engine: Literal["loky", "ray"]
    jobs: Jobs  # each loads the base; -1: one per core
    gpus: NonNegativeFloat  # of each worker of a Ray cluster


@dataclass(frozen=True, config=STRICT)
class WriteShards:
    """Pairs, frames and features to tars."""

    shard_size_mb: PositiveFloat
    max_pairs: PositiveInt | None  # of each split
    features: bool
    engine: Literal["loky", "ray"]
    jobs: Jobs  # -1: one per core


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
    """Pairs and features to a displacement prior: its form, then its training."""

    start: Literal["pretrained", "scratch"]
    num_components: PositiveInt  # of the codes of image embeddings
    width: PositiveInt
    depth: PositiveInt
    num_rotations: PositiveInt
    sigma_time: NonNegativeFloat
    sigma_view: NonNegativeFloat
    max_azimuth_frequency: Count
    mirror: bool
    recolour: bool
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
    checkpoints: str | None  # an fsspec address for copies; null: beside the prior alone
    num_val_pairs: Count
    mixed_precision: Literal["auto", "no", "bf16", "fp16"]


@dataclass(frozen=True, config=STRICT)
class ShardSource:
    """Shards at an address, and their share in the mixture of several."""

    address: str
    weight: PositiveFloat = 1.0


@dataclass(frozen=True, config=STRICT)
class Loader:
    """Where the shards of a training lie, and how they are read."""

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
    """Shards to an adapter: the form of the adapter, then the training."""

    launcher: str | None  # an accelerate config file, or arguments of `accelerate launch`; null: one process
    preset: str
    ip_adapter: str | None
    start: Literal["pretrained", "scratch"]
    mapper_input: Literal["displacement_and_source", "displacement"]
    num_words: PositiveInt | None  # of every layer; null: as many as the image prompt has tokens
    view_encoding: Literal["spherical", "matrix"]
    num_frequencies: PositiveInt
    hidden_width: PositiveInt
    sigma_time: NonNegativeFloat
    sigma_view: NonNegativeFloat
    sigma_timesteps: NonNegativeFloat
    sigma_layer: NonNegativeFloat
    loss: Literal["distill", "ddpm"]
    batch_size: PositiveInt  # of a step, over all processes
    micro_batches: PositiveInt | None  # parts that it is computed in; null: one per process
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
    checkpoints: str | None  # an fsspec address for copies; null: beside the adapter alone
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
    baselines: bool  # paint those that need the model, too
    batch_size: PositiveInt
    large_gap: Fraction  # a pair is "large" from this |normalized_gap| on, or ...
    large_azimuth_deg: Annotated[float, Field(ge=0, le=180)]  # ... from this |azimuth displacement| on
    num_bootstrap: PositiveInt
    num_sheet_rows: PositiveInt
    feature_space: Literal["pixels", "latents", "clip", "efficientnet"]  # in which control has no prefix
    second_opinion: bool  # of EfficientNet-Lite0; needs the extra second-opinion
    num_sweep_scenes: PositiveInt  # on whose camera x time grids control is measured
    num_sweep_steps: Annotated[int, Field(ge=2)]
    num_shown_scenes: PositiveInt  # scenes whose sweeps are shown as pictures
    num_edits: Count  # commands of the sweeps carried out with another scene's caption, at ...
    edit_strengths: tuple[Fraction, ...]  # ... these strengths of the prompt, and at strength 1's text guidance ...
    edit_lambdas: tuple[NonNegativeFloat, ...]  # ... these lambdas beside the adapter's own
    structure_from_motion: bool  # pose the orbits with COLMAP: for scenes with texture; extra `colmap`
