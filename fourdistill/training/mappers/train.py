"""Training of an adapter's words on pairs in shards, through the frozen base."""

from pathlib import Path

from fourdistill.models.adapter import Adapter
from fourdistill.models.base.model import BaseModel
from fourdistill.shards.loader.batches import Shards
from fourdistill.training.mappers.settings import Train
from fourdistill.training.mappers.task import DrawSamples, MapperTask
from fourdistill.training.runtime.trainer import Trainer, TrainerSettings


def train(
    shards: Shards,
    base: BaseModel,
    adapter: Adapter,
    settings: Train,
    seed: int,
    *,
    adapter_folder: Path,
    live_folder: Path,
    checkpoint_folder: Path,
    draw_samples: DrawSamples | None = None,
) -> dict[str, float]:
    """Train `adapter` on the pairs in `shards`, save it to `adapter_folder`, and return the last validation.

    Metrics and `train_report.json` go to `live_folder` (DVCLive). Called again with the same arguments, a killed run
    resumes from the checkpoint in `checkpoint_folder` or at `settings.checkpoints.address`, with the same batches and
    draws as an uninterrupted run. The base's U-Net stays in the precision of the training. Raises `Preempted` after
    SIGTERM, once the state is saved.
    """
    trainer = Trainer(
        TrainerSettings.of(
            settings, seed, micro_batches=settings.micro_batches, mixed_precision=settings.compute.mixed_precision
        ),
        live_folder=live_folder,
        checkpoint_folder=checkpoint_folder,
    )
    task = MapperTask(
        shards,
        base,
        adapter,
        settings,
        seed,
        trainer.micro_batches,
        adapter_folder=adapter_folder,
        draw_samples=draw_samples,
    )
    return trainer.fit(task)
