"""Generation compared with diffusers' own pipeline, and words encoded together compared with one by one.

    python benchmarks/generate.py --size mini
    python benchmarks/generate.py --size sd15 --steps 4 --batch-size 1 --rounds 3

Generation: `FourDistillPipeline` with commands in time and view, compared with stock `StableDiffusionPipeline` and the
same image prompt as an exported IP-Adapter. Both use the same base, steps, batch, sampler and guidance branches; image
encoding and decoding are included. Words: equation (1) for the words of the batch in every layer, computed once per
sampling, compared with a text encoder pass for each word. Rounds alternate; medians are compared. `sd15` has the
U-Net, text encoder and VAE of Stable Diffusion 1.5 with random weights, at 256 x 256, and four layers of its
IP-Adapter's ViT-H.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import torch
import typer
from defaults import default_prior, default_settings
from diffusers import StableDiffusionPipeline
from diffusers.models import UNet2DConditionModel
from memory import peak_gb
from PIL import Image
from sd15_sized import build_sd15_base

from fourdistill import FourDistillPipeline
from fourdistill.ip_adapter_files import write_ip_adapter
from fourdistill.models import words
from fourdistill.models.adapter import Adapter
from fourdistill.models.base.model import BaseModel, load_base, restore_stock_processors

Contender = Callable[[], object]
ROOT = Path(__file__).parents[1]
PROMPT = "a woman walks"


def main(
    size: Annotated[str, typer.Option(help="mini, or sd15: random weights.")] = "mini",
    batch_size: int = 8,
    steps: int = 30,
    rounds: int = 5,
    guidance_scale: Annotated[float, typer.Option(help="1: one branch; else two.")] = 3.0,
    threads: Annotated[int, typer.Option(help="0: as torch chooses.")] = 0,
) -> None:
    """Print times and ratios as JSON."""
    if threads:
        torch.set_num_threads(threads)
    base, adapter = mini() if size == "mini" else sd15()
    ours = FourDistillPipeline.from_parts(base, adapter)
    ours.set_progress_bar_config(disable=True)
    stock = stock_pipeline(base, adapter)
    shared = {"guidance_scale": guidance_scale, "num_inference_steps": steps}
    image = Image.open(ROOT / "examples/walk.png").convert("RGB")
    times = [0.5 - i / batch_size for i in range(batch_size)]
    generation = compare(
        {
            "stock": lambda: stock([PROMPT] * batch_size, ip_adapter_image=image, **shared),
            "ours": lambda: ours(image, PROMPT, time=times, azimuth=45, prompt_strength=0, **shared),
        },
        rounds,
    )
    encoding = compare(words_contenders(ours, batch_size), 1)
    typer.echo(
        json.dumps(
            {
                "generation": generation | {"ratio_ours_over_stock": generation["ours_s"] / generation["stock_s"]},
                "words": encoding | {"times_faster": encoding["pass_each_s"] / encoding["one_pass_s"]},
                "size": size, "batch_size": batch_size, "branches": 1 + (guidance_scale != 1), "steps": steps,
                "threads": torch.get_num_threads(),
            },
            indent=2,
        )
    )  # fmt: skip


def compare(contenders: dict[str, Contender], rounds: int) -> dict[str, float]:
    """Median seconds of each, `<name>_s`, in alternating rounds, and the peak memory of an uncounted round before."""
    cpu = torch.device("cpu")
    memory = {f"{name}_peak_gb": peak_gb(run, cpu) for name, run in contenders.items()}  # and warm up
    seconds: dict[str, list[float]] = {f"{name}_s": [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            started = time.perf_counter()
            run()
            seconds[f"{name}_s"].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()} | memory


@torch.no_grad()
def words_contenders(pipe: FourDistillPipeline, batch_size: int) -> dict[str, Contender]:
    """Equation (1) for the words of a batch in every layer, both ways."""
    config = pipe.adapter.config
    shape = (batch_size, config.projector["num_queries"], config.base_facts.cross_attention_dim)
    spoken = pipe.adapter.mapper(torch.randn(shape, generator=torch.Generator().manual_seed(0)))

    @torch.no_grad()
    def one_pass() -> None:
        words.say(pipe.text_encoder, spoken, config.settings.lambda_)

    def pass_each() -> None:
        with patch.object(words, "encode_single_tokens", encode_one_by_one):
            one_pass()

    return {"one_pass": one_pass, "pass_each": pass_each}


def encode_one_by_one(text_encoder: Any, v_base: torch.Tensor) -> torch.Tensor:
    """CLIP(v_base) of every vector of (..., D), each by a separate pass through the text encoder's own layers."""
    model = getattr(text_encoder, "text_model", text_encoder)
    alone = [model.encoder(inputs_embeds=v[None, None]).last_hidden_state[0, 0] for v in v_base.flatten(0, -2)]
    return model.final_layer_norm(torch.stack(alone)).reshape(v_base.shape)


def stock_pipeline(base: BaseModel, adapter: Adapter) -> Any:
    """Diffusers' own pipeline with the same weights; the adapter's image prompt is loaded as an IP-Adapter."""
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel.from_config(base.unet.config)
    unet.load_state_dict(base.unet.state_dict(), assign=True)
    restore_stock_processors(unet)
    pipe: Any = StableDiffusionPipeline(
        base.vae, base.text_encoder, base.tokenizer, unet, base.scheduler, None, base.feature_extractor,  # type: ignore[arg-type]
        base.image_encoder, requires_safety_checker=False,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        write_ip_adapter(Path(folder) / "image_prompt.safetensors", adapter, unet)
        pipe.load_ip_adapter(folder, subfolder="", weight_name="image_prompt.safetensors", image_encoder_folder=None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def mini() -> tuple[BaseModel, Adapter]:
    """The shipped base and adapter."""
    base = load_base(str(ROOT / "data/base/mini"), with_ip_adapter=False)
    return base, Adapter.load(ROOT / "models/mini-adapter", base)


def sd15() -> tuple[BaseModel, Adapter]:
    """A base of the size of Stable Diffusion 1.5, and an adapter with a prior of the default size."""
    base = build_sd15_base()
    generator = torch.Generator().manual_seed(0)
    vision: Any = base.image_encoder.config
    tokens = (vision.image_size // vision.patch_size) ** 2 + 1
    prior = default_prior(tokens, vision.hidden_size, generator)
    return base, Adapter.from_base(base, default_settings(), generator, prior).eval().requires_grad_(False)


if __name__ == "__main__":
    typer.run(main)
