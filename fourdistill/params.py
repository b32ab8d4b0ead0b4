"""All of `params.yaml`: every stage's settings, and what several stages share.

It knows every stage, so no stage may import it: a new key of `evaluate` would re-run `extract_frames`. `stage.py` loads
it when a stage is started.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from fourdistill.config import STRICT, Count, LocalPath, NonNegativeFloat, read_settings
from fourdistill.evaluation.settings import Evaluate
from fourdistill.features.settings import Augmentations, EncodeFrames
from fourdistill.frames.all_frames import TeacherFrames
from fourdistill.frames.settings import ExtractFrames
from fourdistill.pairs.settings import BuildPairs, DisplacementSettings
from fourdistill.poses.settings import EstimatePoses
from fourdistill.shards.settings import WriteShards
from fourdistill.sources.settings import Source
from fourdistill.teacher.settings import Reconstruct
from fourdistill.training.mappers.settings import Train
from fourdistill.training.prior.settings import TrainPrior


@dataclass(frozen=True, config=STRICT)
class Paths:
    """Where the stages read and write, relative to the working directory."""

    raw: LocalPath
    poses_table: LocalPath
    frames: str  # a local folder, or an fsspec address such as s3://bucket/frames
    frames_table: LocalPath
    scenes_table: LocalPath
    teacher: str  # likewise
    teacher_table: LocalPath
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
class Params:
    """All of `params.yaml`; `lambda_` is its top-level key `lambda`, the λ of equation (1)."""

    lambda_: Annotated[NonNegativeFloat, Field(alias="lambda")]
    seed: Count
    paths: Paths
    sources: Annotated[list[Source], Field(min_length=1)]
    displacement: DisplacementSettings
    augmentations: Augmentations
    estimate_poses: EstimatePoses
    extract_frames: ExtractFrames
    reconstruct: Reconstruct
    build_pairs: BuildPairs
    encode_frames: EncodeFrames
    write_shards: WriteShards
    train_prior: TrainPrior
    train: Train
    evaluate: Evaluate

    @property
    def teacher_frames(self) -> TeacherFrames | None:
        """The output of `reconstruct`; None if that stage is off."""
        return TeacherFrames(self.paths.teacher_table, self.paths.teacher) if self.reconstruct.enabled else None


def load_params(path: Path = Path("params.yaml"), over: Path | None = None) -> Params:
    """Read and check a params file, with the values of a second one in the place of its own; raises `InputError`."""
    return read_settings(Params, path, over)


def dump_params(params: Params) -> str:
    """The resolved parameters as indented JSON, keys as in `params.yaml`."""
    return TypeAdapter(Params).dump_json(params, by_alias=True, indent=2).decode()
