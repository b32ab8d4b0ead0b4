"""The training loop: accelerate on one device or many, DVCLive, checkpoints that resume by themselves."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.optimization import get_scheduler
from torch import nn
from tqdm import tqdm

from fourdistill.errors import InputError
from fourdistill.models.adapter import Adapter
from fourdistill.models.base.model import BaseModel
from fourdistill.shards.loader.batches import ReadOptions, Shards, fingerprint_shards
from fourdistill.training.mappers.monitor import DrawSamples, Monitor
from fourdistill.training.mappers.objective import Objective
from fourdistill.training.mappers.settings import TrainingSettings
from fourdistill.training.mappers.step import Denoiser
from fourdistill.training.runtime.checkpoint import OF_NO_CONSEQUENCE, Checkpoints
from fourdistill.training.runtime.hashes import weights_hash
from fourdistill.training.runtime.micro_batches import MicroBatches
from fourdistill.training.runtime.preemption import Preempted, Preemption
from fourdistill.training.runtime.report import TrainReport
from fourdistill.training.runtime.sharding import read_sharding, shard_unet
from fourdistill.training.runtime.tracking import end_accelerator, start_accelerator, start_logs

_OF_THE_ORDER = ("shuffle_buffer", "resampled")  # options of reading that decide which pairs come when


def train(
    shards: Shards,
    base: BaseModel,
    adapter: Adapter,
    settings: TrainingSettings,
    *,
    read_options: ReadOptions | None = None,
    adapter_folder: Path,
    live_folder: Path,
    checkpoint_folder: Path,
    checkpoint_address: str | None = None,
    draw_samples: DrawSamples | None = None,
) -> dict[str, float]:
    """Train `adapter` on the pairs in `shards`, save it to `adapter_folder`, and return the last validation.

    Metrics and `train_report.json` go to `live_folder` (DVCLive). A killed run goes on from the checkpoint in
    `checkpoint_folder`, or at the fsspec address, when it is called again with the same arguments, with the same
    batches and draws as if it had not been interrupted. Raises `Preempted` when SIGTERM came and the state is saved.
    """
    accelerator = start_accelerator(settings.mixed_precision)
    micro_batches = MicroBatches.divide(
        settings.batch_size, settings.micro_batches, accelerator.num_processes, accelerator.process_index
    )
    accelerator.gradient_accumulation_steps = len(micro_batches.mine)
    facts = fingerprint(shards, read_options, base, adapter, settings, micro_batches)
    checkpoints = Checkpoints(
        checkpoint_folder, live_folder, facts, settings.keep_checkpoints, checkpoint_address
    )  # fmt: skip
    resumed = checkpoints.restore_live() if accelerator.is_main_process else False
    start_logs(accelerator, live_folder, resume=resumed)

    place(base, adapter, accelerator, settings)
    denoiser = Denoiser(base, adapter, settings.loss)
    optimizer = make_optimizer(adapter, settings)
    lr_scheduler = get_scheduler(
        settings.lr_scheduler,
        optimizer,
        num_warmup_steps=settings.warmup_steps,
        num_training_steps=settings.max_steps,
    )
    model, optimizer, lr_scheduler = accelerator.prepare(denoiser, optimizer, lr_scheduler)
    report = TrainReport(accelerator.num_processes, micro_batches.total, settings.batch_size)
    step, kept = checkpoints.resume(accelerator)
    loaders = micro_batches.loaders(shards, read_options, step, seed=settings.seed, num_workers=settings.num_workers)
    objective = Objective(accelerator, model, denoiser, settings, micro_batches)
    monitor = Monitor(accelerator, denoiser, settings, draw_samples, report, live_folder)
    monitor.start(step, kept, loaders)
    monitor.load_validation(shards, read_options)
    if step == 0:
        monitor.validate(0)

    adapter.train()
    with Preemption() as preemption:  # to the end: a launcher may tell its processes twice
        finished = take_steps(model, optimizer, lr_scheduler, objective, monitor, checkpoints, preemption, step)
        if finished and accelerator.is_main_process:
            facts = {"steps": settings.max_steps, **asdict(settings), "validation": monitor.validation}
            adapter.save(adapter_folder, facts)
        monitor.close("finished" if finished else "preempted")
        del model, objective  # so that nothing refers to DDP's model any more
        end_accelerator(accelerator)
    if not finished:
        raise Preempted
    if accelerator.is_main_process:
        checkpoints.clear()  # last: until everything is written, a killed run goes on from the last one
    return monitor.validation


def take_steps(
    model: nn.Module,
    optimizer: Any,
    lr_scheduler: Any,
    objective: Objective,
    monitor: Monitor,
    checkpoints: Checkpoints,
    preemption: Preemption,
    first: int,
) -> bool:
    """The steps from `first` on, with checkpoints; False where SIGTERM came before the last and the state is saved."""
    accelerator, settings = objective.accelerator, objective.settings
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    with progress(accelerator, settings, first) as bar, monitor.training():
        for step, micro_batch, batch in objective.micro_batches.read(monitor.loaders, range(first, settings.max_steps)):
            with accelerator.accumulate(model):
                loss = objective(batch, step, micro_batch)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(trained, settings.max_grad_norm)
                optimizer.step()
                lr_scheduler.step()
                optimizer.zero_grad(set_to_none=True)
            monitor.add(loss)
            if not accelerator.sync_gradients:
                continue
            bar.update()
            done = step + 1
            monitor.after_step(done, lr_scheduler.get_last_lr()[0])
            if done == settings.max_steps:
                break
            preempted = preemption.asked(accelerator)
            if preempted or done % settings.checkpoint_every == 0:
                with monitor.pause():
                    checkpoints.save(accelerator, done, monitor.state())
            if preempted:
                return False
    return True


def progress(accelerator: Accelerator, settings: TrainingSettings, step: int) -> "tqdm[Any]":
    """A bar over the steps, shown by the main process."""
    return tqdm(
        total=settings.max_steps,
        initial=step,
        desc="train",
        unit="step",
        mininterval=2,
        disable=not accelerator.is_main_process,
    )


def place(base: BaseModel, adapter: Adapter, accelerator: Accelerator, settings: TrainingSettings) -> None:
    """Move the base to the devices, in parts where accelerate's config says so.

    And trade time for memory in the frozen U-Net, or compilation for speed, where the settings say so.
    """
    sharding = read_sharding()
    if sharding is not None and settings.compile is not None:
        raise InputError("train: compile: expected null beside accelerate's distributed_type FSDP")
    if sharding is not None and accelerator.num_processes > 1:
        shard_unet(base.unet, sharding, accelerator.device)
    base.to(accelerator.device)
    if settings.gradient_checkpointing:
        base.unet.enable_gradient_checkpointing()
    else:
        base.unet.disable_gradient_checkpointing()
    if settings.compile is not None:
        base.unet.compile(backend=settings.compile)


def make_optimizer(adapter: Adapter, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW on what of the adapter is trained; the rest of it is frozen."""
    trained = [parameter for parameter in adapter.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=settings.weight_decay)


def fingerprint(
    shards: Shards,
    read_options: ReadOptions | None,
    base: BaseModel,
    adapter: Adapter,
    settings: TrainingSettings,
    micro_batches: MicroBatches,
) -> dict[str, Any]:
    """What a checkpoint must agree with: settings, data, base and adapter; not the number of processes."""
    values = asdict(settings) | {"micro_batches": micro_batches.total}
    reading = asdict(read_options or ReadOptions())
    return {
        "settings": {name: value for name, value in values.items() if name not in OF_NO_CONSEQUENCE},
        "adapter": asdict(adapter.config),
        "shards": fingerprint_shards(shards),
        "reading": {name: reading[name] for name in _OF_THE_ORDER},
        "initial_weights": weights_hash(adapter),
        "unet": weights_hash(base.unet),
        "text_encoder": weights_hash(base.text_encoder),
    }
