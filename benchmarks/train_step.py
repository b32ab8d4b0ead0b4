"""A training step compared with the bare U-Net's forward and backward, and with the original's recipe, in one run.

    python benchmarks/train_step.py --base data/base/mini --batch-size 32
    python benchmarks/train_step.py --size sd15 --batch-size 2 --rounds 3 --precision bf16 --all

`unet` is diffusers' own: stock attention, frozen, with a prompt as its only context and gradients to that context,
under autocast in the precision of the step. `unet_stored` is the same with its weights stored in that precision, as
`train` stores them. `step` is that of `train`, from cached features: sampling, condition dropout, the prior's
prediction (default size; untrained, which takes the same time), words of all layers, the U-Net's output for the words
and for the image prompt (the target), loss, backward, clipping, AdamW. `pixels` encodes both frames first, with the VAE
and the image encoder. `original` is the original's recipe: one word of the displacement and the DDPM loss in fp32; the
VAE encodes the frames at every step, and the text encoder runs once per cross-attention layer; the rest is as in the
step.

Rounds alternate; medians of wall-clock and CPU seconds are compared. CPU seconds are less affected by other programs on
the machine.
"""

import json
import statistics
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Annotated, Any
from unittest.mock import patch

import torch
import typer
from accelerate import Accelerator
from defaults import PARAMS, default_prior, default_settings
from memory import peak_gb
from sd15_sized import build_sd15_base

from fourdistill.geometry.displacement import Displacement
from fourdistill.models import words
from fourdistill.models.adapter import Adapter
from fourdistill.models.attention import install_processors
from fourdistill.models.base.model import BaseModel, load_base, restore_stock_processors, vae_scale_factor
from fourdistill.models.base.precision import store_weights
from fourdistill.shards.loader.batches import Batch
from fourdistill.training.mappers.denoiser import Denoiser
from fourdistill.training.mappers.objective import Objective
from fourdistill.training.runtime.seeds import step_generator
from fourdistill.training.runtime.trainer import make_optimizer, trained_parameters

RATIOS = (
    ("step", "unet"), ("step", "unet_stored"), ("pixels", "unet"), ("original", "step"), ("original", "pixels"),
)  # fmt: skip


def main(
    base: Annotated[str, typer.Option(help="A base with an IP-Adapter Plus.")] = "data/base/mini",
    size: Annotated[str, typer.Option(help="base: as it is; sd15: of its shape, with random weights.")] = "base",
    batch_size: int = 32,
    rounds: int = 15,
    threads: Annotated[int, typer.Option(help="0: as torch chooses.")] = 0,
    precision: Annotated[str, typer.Option(help="no, bf16 or fp16.")] = "no",
    everything: Annotated[bool, typer.Option("--all", help="Time unet_stored, pixels and original too.")] = False,
) -> None:
    """Print times, their ratios and the peak memory of each as JSON."""
    if threads:
        torch.set_num_threads(threads)
    loaded = load_base(base) if size == "base" else build_sd15_base()
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision=precision)
    contenders = list_contenders(loaded, accelerator, random_batch(loaded, batch_size), everything)
    clock: dict[str, list[float]] = {name: [] for name in contenders}
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    memory = {name: peak_gb(run, accelerator.device) for name, run in contenders.items()}  # and warm up
    for _ in range(rounds):
        for name, run in contenders.items():
            started = time.perf_counter(), time.process_time()
            run()
            clock[name].append(time.perf_counter() - started[0])
            cpu[name].append(time.process_time() - started[1])
    facts: dict[str, Any] = {"size": size, "threads": torch.get_num_threads(), "batch_size": batch_size}
    facts |= {"precision": precision, "rounds": rounds}
    for kind, times in (("clock", clock), ("cpu", cpu)):
        facts |= {f"{name}_{kind}_s": statistics.median(values) for name, values in times.items()}
        for first, second in RATIOS:
            if {first, second} <= set(times):
                facts[f"{first}_over_{second}_{kind}"] = ratio(times[first], times[second])
    typer.echo(json.dumps(facts | {f"{name}_peak_gb": peak for name, peak in memory.items()}))


def list_contenders(
    base: BaseModel, accelerator: Accelerator, batch: Batch, everything: bool
) -> dict[str, Callable[[], None]]:
    """What is timed, by name. Where training stores the U-Net in another format, it is a second one."""
    adapter, stored = default_adapter(base, batch), base.to(accelerator.device)
    if accelerator.mixed_precision != "no":
        stored = replace(base, unet=deepcopy(base.unet))
        store_weights(stored.unet, accelerator.mixed_precision)
    step = training_step(accelerator, stored, adapter, batch)
    contenders = {"unet": bare_unet(accelerator, base, batch), "step": step}
    if everything:
        if stored is not base:
            contenders["unet_stored"] = bare_unet(accelerator, stored, batch)
        contenders["pixels"] = step_from_pixels(accelerator, stored, batch, step)
        contenders["original"] = original_step(accelerator, base, batch)
    return contenders


def ratio(first: list[float], second: list[float]) -> float:
    """The median ratio over rounds."""
    return statistics.median(a / b for a, b in zip(first, second, strict=True))


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
        displacement=Displacement(
            time=torch.rand(batch_size, generator=generator) * 2 - 1,
            azimuth=torch.rand(batch_size, generator=generator),
            elevation=torch.rand(batch_size, generator=generator),
            radius=torch.rand(batch_size, generator=generator),
            relative_pose=torch.rand(batch_size, 12, generator=generator),
            has_time=torch.arange(batch_size) % 3 != 0,
            has_view=torch.arange(batch_size) % 3 != 1,
        ),
        caption=[f"caption {i % 8}" for i in range(batch_size)],
        pair_id=torch.arange(batch_size),
        weight=torch.ones(batch_size),
    )


def bare_unet(accelerator: Accelerator, base: BaseModel, batch: Batch) -> Callable[[], None]:
    """Forward and backward of the stock, frozen U-Net to its prompt tokens: same weights, stock processors."""
    length, width = base.tokenizer.model_max_length, base.unet.config["cross_attention_dim"]
    device, latents = accelerator.device, batch.target_latents.to(accelerator.device)
    text = torch.randn(len(batch.caption), length, width, device=device).requires_grad_()
    timesteps = torch.randint(0, 1000, (len(batch.caption),), device=device)

    def run() -> None:
        restore_stock_processors(base.unet)
        with accelerator.autocast():
            out = base.unet(latents, timesteps, encoder_hidden_states=text).sample
        torch.nn.functional.mse_loss(out.float(), latents).backward()
        text.grad = None

    return run


def default_adapter(base: BaseModel, batch: Batch) -> Adapter:
    """An adapter as `train` begins with it from scratch, and a prior of random weights."""
    generator = torch.Generator().manual_seed(0)
    num_tokens, embeds_width = batch.source_embeds.shape[1:]
    prior = default_prior(num_tokens, embeds_width, generator)
    return Adapter.from_base(base, default_settings(), generator, prior)


def training_step(accelerator: Accelerator, base: BaseModel, adapter: Adapter, batch: Batch) -> Callable[[], None]:
    """One step of the training loop, optimiser included."""
    denoiser = Denoiser(base, adapter)
    return take_steps(accelerator, denoiser, accelerator.prepare(denoiser), batch)


def step_from_pixels(
    accelerator: Accelerator, base: BaseModel, batch: Batch, step: Callable[[], None]
) -> Callable[[], None]:
    """The same step, after both encoders have run: the VAE on the target frames, the image encoder on the sources."""
    pixels = random_pixels(base, batch).to(accelerator.device)
    size: Any = base.image_encoder.config.image_size
    images = torch.randn(len(pixels), 3, size, size).to(accelerator.device)

    def run() -> None:
        with torch.no_grad(), accelerator.autocast():
            base.vae.encode(pixels)
            base.image_encoder(images, output_hidden_states=True)
        step()

    return run


def random_pixels(base: BaseModel, batch: Batch) -> torch.Tensor:
    """Frames (B, 3, H, W) of the size of the batch's latents."""
    factor = vae_scale_factor(base.vae)
    return torch.randn(len(batch.caption), 3, *(side * factor for side in batch.target_latents.shape[2:]))


def original_step(accelerator: Accelerator, base: BaseModel, batch: Batch) -> Callable[[], None]:
    """The original's recipe: VAE, one text pass per layer instead of one per step, no prior; all in fp32."""
    form = default_settings(mapper_input="displacement", num_words=1)
    adapter = Adapter.from_base(base, form, torch.Generator().manual_seed(0))
    denoiser = Denoiser(base, adapter, "ddpm").to(accelerator.device)
    step = take_steps(accelerator, denoiser, denoiser, batch)  # not prepared: no autocast
    pixels = random_pixels(base, batch).to(accelerator.device)
    at_once = words.encode_single_tokens

    def layer_by_layer(text_encoder: Any, v_base: torch.Tensor) -> torch.Tensor:
        return torch.cat([at_once(text_encoder, layer) for layer in v_base.split(1, dim=1)], dim=1)

    def run() -> None:
        with torch.no_grad():
            base.vae.encode(pixels)
        with patch.object(words, "encode_single_tokens", layer_by_layer):
            step()

    return run


def take_steps(
    accelerator: Accelerator, denoiser: Denoiser, model: torch.nn.Module, batch: Batch
) -> Callable[[], None]:
    """Draws, losses, backward, clipping and AdamW; `model` is the denoiser, prepared by accelerate or not."""
    settings = PARAMS.train
    optimizer = make_optimizer(denoiser, settings.optimizer)
    objective = Objective(denoiser, settings.loss, accelerator.device)
    parameters = trained_parameters(denoiser)
    steps = iter(range(10**9))

    def run() -> None:
        install_processors(denoiser.base.unet)
        accelerator.backward(objective(model, batch, step_generator(PARAMS.seed, next(steps))))
        accelerator.clip_grad_norm_(parameters, settings.optimizer.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return run


if __name__ == "__main__":
    typer.run(main)
