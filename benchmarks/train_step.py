"""Training step against the bare U-Net's forward and backward on the same batch, in one run.

    python benchmarks/train_step.py --base data/base/mini --batch-size 32

The bare U-Net is diffusers' own: stock attention, frozen, a prompt as its only context, differentiated to that
context. The step is what `train` does: draws, condition dropout, samples of a prior (of the default size; untrained,
which is as fast), v* of all layers, image prompt, decoupled attention, loss, backward, clipping, AdamW. Rounds
alternate between the two; medians are compared.
"""

import copy
import json
import statistics
import time
from collections.abc import Callable
from typing import Annotated, Any

import torch
import typer
from accelerate import Accelerator

from fourdistill.data.loader import Batch
from fourdistill.models.adapter import Adapter
from fourdistill.models.adapter_config import AdapterSettings
from fourdistill.models.base import BaseModel, load_base, restore_stock_processors
from fourdistill.models.prior import DisplacementPrior, PriorConfig
from fourdistill.training.loop import Run, make_optimizer
from fourdistill.training.settings import TrainingSettings


def main(
    base: Annotated[str, typer.Option(help="A base with an IP-Adapter Plus.")] = "data/base/mini",
    batch_size: int = 32,
    rounds: int = 15,
    threads: Annotated[int, typer.Option(help="0: as torch chooses.")] = 0,
) -> None:
    """Print both times and their ratio as JSON."""
    if threads:
        torch.set_num_threads(threads)
    loaded = load_base(base)
    batch = random_batch(loaded, batch_size)
    contenders = {"unet_s": bare_unet(loaded, batch), "step_s": training_step(loaded, batch)}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for round_ in range(rounds + 2):
        for name, run in contenders.items():
            started = time.perf_counter()
            run()
            if round_ >= 2:  # warm-up
                times[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratio = statistics.median(step / unet for unet, step in zip(times["unet_s"], times["step_s"], strict=True))
    typer.echo(json.dumps({**medians, "ratio": ratio, "threads": torch.get_num_threads(), "batch_size": batch_size}))


def random_batch(base: BaseModel, batch_size: int) -> Batch:
    """Pairs of all kinds with random features of the base's shapes."""
    config = base.unet.config
    vision: Any = base.image_encoder.config
    generator = torch.Generator().manual_seed(0)
    tokens = (vision.image_size // vision.patch_size) ** 2 + 1
    size = config["sample_size"]
    return Batch(
        target_latents=torch.randn(batch_size, config["in_channels"], size, size, generator=generator),
        source_embeds=torch.randn(batch_size, tokens, vision.hidden_size, generator=generator),
        delta_time=torch.rand(batch_size, generator=generator) * 2 - 1,
        relative_pose=torch.rand(batch_size, 12, generator=generator),
        delta_spherical=torch.rand(batch_size, 3, generator=generator),
        has_time=torch.arange(batch_size) % 3 != 0,
        has_view=torch.arange(batch_size) % 3 != 1,
        caption=[f"caption {i % 8}" for i in range(batch_size)],
        pair_id=torch.arange(batch_size),
    )


def bare_unet(base: BaseModel, batch: Batch) -> Callable[[], None]:
    """Forward and backward of the stock, frozen U-Net to its prompt tokens."""
    unet = copy.deepcopy(base.unet)
    restore_stock_processors(unet)
    length, width = base.tokenizer.model_max_length, unet.config["cross_attention_dim"]
    text = torch.randn(len(batch.caption), length, width).requires_grad_()
    timesteps = torch.randint(0, 1000, (len(batch.caption),))

    def run() -> None:
        out = unet(batch.target_latents, timesteps, encoder_hidden_states=text).sample
        torch.nn.functional.mse_loss(out, batch.target_latents).backward()
        text.grad = None

    return run


def training_step(base: BaseModel, batch: Batch) -> Callable[[], None]:
    """One step of the training loop, optimiser included."""
    settings = TrainingSettings(batch_size=len(batch.caption))
    generator = torch.Generator().manual_seed(0)
    prior = DisplacementPrior(PriorConfig(*batch.source_embeds.shape[1:], num_components=384), generator)
    adapter = Adapter.from_base(base, AdapterSettings(), generator, prior)
    optimizer = make_optimizer(adapter, settings)
    run_ = Run(Accelerator(), base, adapter, adapter, settings, None)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    steps = iter(range(10**9))

    def run() -> None:
        run_.loss(batch, next(steps)).backward()
        torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return run


if __name__ == "__main__":
    typer.run(main)
