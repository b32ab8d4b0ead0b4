"""Checks on one CUDA device what this project says of GPUs, in at most eight minutes; `make gpu-check`.

    python benchmarks/gpu_check.py --out benchmarks/gpu.md

Models have random weights in the shape of Stable Diffusion 1.5 and, for memory, of SDXL. Every check has a bound. The
table says for each what was measured, what was expected and whether it holds; status 1 if one does not. Without CUDA
this prints one line and ends with status 0.
"""

import gc
import importlib.util
import math
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import plain_rasterizer
import torch
import typer
from accelerate import Accelerator
from diffusers import UNet2DConditionModel
from memory import peak_gb
from PIL import Image
from sd15_sized import build_sd15_base
from train_step import bare_unet, default_adapter, random_batch, training_step

from fourdistill import FourDistillPipeline
from fourdistill.models.adapter import Adapter
from fourdistill.models.base.model import BaseModel, encode_latents, image_size
from fourdistill.models.base.precision import autocast, store_weights
from fourdistill.teacher.splats.rasterizer import Rasterize, gsplat_rasterizer

TIME_LIMIT_S = 420  # no check is begun after it
SDXL = {  # of its U-Net, beside diffusers' defaults
    "sample_size": 128, "cross_attention_dim": 2048, "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10), "attention_head_dim": (5, 10, 20), "use_linear_projection": True,
    "addition_embed_type": "text_time", "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip


@dataclass(frozen=True)
class Check:
    """What was measured, and the bound that it keeps to; NaN for a figure without one."""

    name: str
    value: float
    bound: float = math.nan
    unit: str = ""
    at_least: bool = False

    @property
    def holds(self) -> bool:
        """Whether the value is within its bound; not if it is no number."""
        if math.isnan(self.bound):
            return True
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def row(self) -> str:
        """A row of the table."""
        sign = "≥" if self.at_least else "≤"
        expected = "" if math.isnan(self.bound) else f"{sign} {self.bound:g} {self.unit}".strip()
        measured = f"{self.value:.3g} {self.unit}".strip()
        return f"| {self.name} | {measured} | {expected} | {'yes' if self.holds else 'NO'} |"


@dataclass(frozen=True)
class Setup:
    """What the checks run on: base and adapter in fp32 on `device`; `compiler` is a backend of torch.compile."""

    base: BaseModel
    adapter: Adapter
    device: torch.device
    compiler: str = "inductor"

    @classmethod
    def of(cls, base: BaseModel, device: torch.device, compiler: str = "inductor") -> "Setup":
        """With a new adapter for a base on the CPU, which is moved to `device`."""
        adapter = default_adapter(base, random_batch(base, 1)).to(device)
        return cls(base.to(device), adapter, device, compiler)

    def draw(self, *shape: int) -> torch.Tensor:
        """Seeded normal numbers, the same on every device."""
        return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(self.device)

    def predict(self, unet: Any) -> torch.Tensor:
        """The U-Net's output for two samples in float32."""
        config, timesteps = self.base.unet.config, torch.tensor([10, 900], device=self.device)
        latents = self.draw(2, config["in_channels"], config["sample_size"], config["sample_size"])
        text = self.draw(2, self.base.tokenizer.model_max_length, config["cross_attention_dim"])
        with torch.no_grad():
            return unet(latents, timesteps, encoder_hidden_states=text).sample.float()

    def seconds(self, run: Callable[[], object], rounds: int = 3) -> float:
        """The fastest of some rounds, after one uncounted."""
        times = []
        for _ in range(rounds + 1):
            started = time.perf_counter()
            run()
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            times.append(time.perf_counter() - started)
        return min(times[1:])


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The norm of the difference over that of what was expected."""
    return float((found - expected).norm() / expected.norm())


def check_precision(setup: Setup) -> Iterator[Check]:
    """The U-Net under autocast against fp32; and with weights stored in that format, which changes nothing."""
    unet = setup.base.unet
    expected = setup.predict(unet)
    for name, bound in (("bf16", 0.05), ("fp16", 0.01)):
        stored = deepcopy(unet)
        store_weights(stored, name)
        with autocast(name, setup.device):
            found, again = setup.predict(unet), setup.predict(stored)
        yield Check(f"U-Net in {name} against fp32, relative error", relative_error(found, expected), bound)
        yield Check(f"U-Net with weights stored in {name} against autocast", relative_error(again, found), 1e-3)


def check_compile(setup: Setup) -> Iterator[Check]:
    """`train.compute.compile`."""
    compiled = deepcopy(setup.base.unet)
    compiled.compile(backend=setup.compiler)
    error = relative_error(setup.predict(compiled), setup.predict(setup.base.unet))
    yield Check("compiled U-Net against plain, relative error", error, 0.001)
    plain = setup.seconds(lambda: setup.predict(setup.base.unet))
    yield Check("compiled U-Net over plain, seconds", setup.seconds(lambda: setup.predict(compiled)) / plain, unit="×")


def check_channels_last(setup: Setup) -> Iterator[Check]:
    """The layout of the VAE in `encode_frames`, and the same of the U-Net."""
    size = image_size(setup.base.unet, setup.base.vae)
    images, vae = [Image.effect_noise((size, size), 60).convert("RGB")], deepcopy(setup.base.vae)
    vae.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    error = relative_error(encode_latents(vae, images), encode_latents(setup.base.vae, images))
    yield Check("VAE in channels-last layout against contiguous, relative error", error, 0.001)
    unet = deepcopy(setup.base.unet).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    error = relative_error(setup.predict(unet), setup.predict(setup.base.unet))
    yield Check("U-Net in channels-last layout against contiguous, relative error", error, 0.001)
    ratio = setup.seconds(lambda: setup.predict(unet)) / setup.seconds(lambda: setup.predict(setup.base.unet))
    yield Check("U-Net in channels-last layout over contiguous, seconds", ratio, unit="×")


def check_adamw(setup: Setup) -> Iterator[Check]:
    """Fused AdamW against AdamW as `train` makes it, on parameters as many as a mapper's."""
    found, seconds = [], []
    for fused in (False, True):
        layers = [torch.nn.Parameter(setup.draw(768, 768)) for _ in range(32)]
        optimizer = torch.optim.AdamW(layers, lr=1e-3, weight_decay=0.01, fused=fused)
        for layer in layers:
            layer.grad = layer.detach().cos()
        for _ in range(3):
            optimizer.step()
        found.append(torch.stack([layer.detach() for layer in layers]))
        seconds.append(setup.seconds(optimizer.step))
    yield Check("fused AdamW against plain, relative error", relative_error(found[1], found[0]), 1e-5)
    yield Check("fused AdamW over plain, seconds", seconds[1] / seconds[0], unit="×")


def check_training(setup: Setup) -> Iterator[Check]:
    """A training step in bf16: its time over the bare U-Net's, and its memory at 512 pixels and batch 1."""
    base, accelerator = setup.base, Accelerator(cpu=setup.device.type == "cpu", mixed_precision="bf16")
    batch, adapter = random_batch(base, 1), deepcopy(setup.adapter)
    stored = replace(base, unet=deepcopy(base.unet))
    store_weights(stored.unet, "bf16")
    stored.vae.to("cpu")  # not needed from cached features
    step, unet = training_step(accelerator, stored, adapter, batch), bare_unet(accelerator, stored, batch)
    yield Check("training step over bare U-Net, bf16, seconds", setup.seconds(step) / setup.seconds(unet), unit="×")
    base.unet.to("cpu")
    yield Check("memory of a training step, 512 px, batch 1, bf16", peak_gb(step, setup.device), 10.0, "GB")
    base.unet.to(setup.device)
    stored.vae.to(setup.device)


def check_generation(setup: Setup) -> Iterator[Check]:
    """Generation in fp16 against fp32, from the same noise."""
    image, latents = Image.effect_noise((64, 64), 60).convert("RGB"), []
    for dtype in (torch.float32, torch.float16):
        base = replace(setup.base, **{name: deepcopy(getattr(setup.base, name)) for name in PARTS})
        pipe = FourDistillPipeline.from_parts(base, deepcopy(setup.adapter).eval()).to(setup.device, dtype)
        pipe.set_progress_bar_config(disable=True)
        made = pipe(image, time=0.5, num_inference_steps=4, seed=0, output_type="latent", guidance_scale=3.0).images
        latents.append(torch.as_tensor(made).float())
        del base, pipe  # a card of 12 GB holds one at a time
    yield Check("generation in fp16 against fp32, relative error of latents", relative_error(*latents[::-1]), 0.05)


PARTS = ("unet", "vae", "text_encoder", "image_encoder")


def check_sdxl(setup: Setup, **changes: Any) -> Iterator[Check]:
    """Forward and backward through a U-Net of SDXL's shape at 1024 pixels, weights in bf16, with checkpointing."""
    with setup.device:
        unet: Any = UNet2DConditionModel(**SDXL | changes).requires_grad_(False).train()
    store_weights(unet, "bf16")
    unet.enable_gradient_checkpointing()
    size, width = unet.config["sample_size"], unet.config["cross_attention_dim"]
    pooled = unet.config["projection_class_embeddings_input_dim"] - 6 * unet.config["addition_time_embed_dim"]
    text = setup.draw(1, 77 + 16, width).requires_grad_()
    added = {"text_embeds": setup.draw(1, pooled), "time_ids": torch.full((1, 6), float(8 * size), device=setup.device)}

    def run() -> None:
        timesteps = torch.tensor([500], device=setup.device)
        with autocast("bf16", setup.device):
            out = unet(setup.draw(1, 4, size, size), timesteps, encoder_hidden_states=text, added_cond_kwargs=added)
        out.sample.float().square().mean().backward()

    name = "memory of SDXL's U-Net, 1024 px, batch 1, forward and backward, bf16"
    yield Check(name, peak_gb(run, setup.device), unit="GB")
    assert text.grad is not None
    yield Check(
        "gradients of SDXL's U-Net, finite share", float(text.grad.isfinite().float().mean()), 1.0, at_least=True
    )


def check_processes(setup: Setup, count: int | None = None) -> Iterator[Check]:
    """Two processes, where there are two GPUs: gradients are those of one process."""
    if (torch.cuda.device_count() if count is None else count) < 2:
        return
    script = str(Path(__file__).with_name("two_processes.py"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", script]
    done = subprocess.run([*command, setup.device.type], capture_output=True, text=True, check=False)
    found = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("error ")]
    yield Check("gradients of two processes against one, error", float(found[0]) if found else math.nan, 1e-5)


def check_splats(setup: Setup, rasterize: Rasterize | None = None) -> Iterator[Check]:
    """gsplat's pictures and gradients against those of a rasteriser in plain PyTorch: 200 Gaussians, 64 pixels."""
    if rasterize is None and importlib.util.find_spec("gsplat") is None:
        return
    errors = plain_rasterizer.errors_of(rasterize or gsplat_rasterizer(), setup.device)
    for name, error in errors.items():
        yield Check(f"gsplat against plain PyTorch: {name}, relative error", error, 0.02)


CHECKS: tuple[Callable[[Setup], Iterator[Check]], ...] = (
    check_precision, check_training, check_generation, check_channels_last, check_adamw, check_splats, check_processes,
    check_sdxl, check_compile,
)  # fmt: skip


def run_checks(setup: Setup) -> Iterator[Check]:
    """All checks in order; one that fails to run counts as one that does not hold."""
    began = time.monotonic()
    for check in CHECKS:
        if time.monotonic() - began > TIME_LIMIT_S:
            yield Check(f"{check.__name__}: begun within {TIME_LIMIT_S} s", math.nan, 0.0)
            continue
        try:
            yield from check(setup)
        except (RuntimeError, TypeError, ValueError) as error:  # torch.OutOfMemoryError is a RuntimeError
            print(f"{check.__name__}: {error}", file=sys.stderr)
            yield Check(f"{check.__name__}: {type(error).__name__}", math.nan, 0.0)
        gc.collect()
        torch.cuda.empty_cache()


def report(device: str, checks: list[Check], seconds: float) -> str:
    """The page that is written."""
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    ran = f"`make gpu-check` on {device}, {versions}, in {seconds:.0f} s."
    head = ["# What was checked on a GPU", "", ran, "Weights are random; see `benchmarks/gpu_check.py`.", ""]
    head += ["| what | measured | expected | holds |", "|---|---|---|---|"]
    return "\n".join([*head, *(check.row() for check in checks), ""])


def main(out: Annotated[Path, typer.Option(help="The table.")] = Path("benchmarks/gpu.md")) -> None:
    """Run all checks, write and print the table."""
    if not torch.cuda.is_available():
        typer.echo("gpu-check: no CUDA device here, nothing was checked")
        return
    started, device = time.monotonic(), torch.device("cuda")
    checks = list(run_checks(Setup.of(build_sd15_base(latent_size=64), device)))  # 512 pixels
    page = report(torch.cuda.get_device_name(device), checks, time.monotonic() - started)
    out.write_text(page, encoding="utf-8")
    typer.echo(page)
    if not all(check.holds for check in checks):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
