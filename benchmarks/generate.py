"""Generation against diffusers' own pipelines, and the words of all timesteps and layers against a pass for each.

    python benchmarks/generate.py --size mini
    python benchmarks/generate.py --size sd15 --steps 4 --batch-size 1 --rounds 3

Generation: `FourDistillPipeline` commanded in time and view, against stock `StableDiffusionPipeline` with the same
image prompt as an exported IP-Adapter: same base, steps, batch, sampler and branches of guidance, image encoding and
decoding included. Words: 50 timesteps of one displacement in one pass, against one pass of the text encoder for each
(timestep, layer), as the original does. Rounds alternate; medians are compared. `sd15` has the U-Net, text encoder and
VAE of Stable Diffusion 1.5 with random weights, at 256 x 256, and four layers of its IP-Adapter's ViT-H.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from diffusers import StableDiffusionPipeline
from diffusers.models import UNet2DConditionModel
from fourdistill.inference.control_table import tabulate
from PIL import Image
from sd15_sized import build_sd15_base

from fourdistill import FourDistillPipeline
from fourdistill.formats import write_ip_adapter
from fourdistill.inference.inputs import broadcast, make_conditions
from fourdistill.models.adapter import Adapter
from fourdistill.models.adapter_config import AdapterSettings
from fourdistill.models.base import BaseModel, load_base, restore_stock_processors
from fourdistill.models.prior import DisplacementPrior, PriorConfig
from fourdistill.models.text import combine

Contender = Callable[[], object]
ROOT = Path(__file__).parents[1]
PROMPT, NUM_TIMESTEPS = "a woman walks", 50


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
            "stock_s": lambda: stock([PROMPT] * batch_size, ip_adapter_image=image, **shared),
            "ours_s": lambda: ours(image, PROMPT, time=times, azimuth=45, **shared),
        },
        rounds,
    )
    words = compare(words_contenders(ours), 1, warm_up=False)
    typer.echo(
        json.dumps(
            {
                "generation": generation | {"ratio_reach_1.05": generation["ours_s"] / generation["stock_s"]},
                "words": words | {"times_faster_reach_10": words["pass_each_s"] / words["one_pass_s"]},
                "size": size, "batch_size": batch_size, "branches": 1 + (guidance_scale != 1), "steps": steps,
                "threads": torch.get_num_threads(),
            },
            indent=2,
        )
    )  # fmt: skip


def compare(contenders: dict[str, Contender], rounds: int, *, warm_up: bool = True) -> dict[str, float]:
    """Median seconds of each, in alternating rounds, after one that is not counted where `warm_up`."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for round_ in range(rounds + warm_up):
        for name, run in contenders.items():
            started = time.perf_counter()
            run()
            if round_ >= warm_up:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


@torch.no_grad()
def words_contenders(pipe: FourDistillPipeline) -> dict[str, Contender]:
    """v* of one displacement in time for 50 timesteps and all layers, made in both ways."""
    adapter, text_encoder = pipe.adapter, pipe.text_encoder
    settings, num_layers = adapter.config.settings, len(adapter.config.base_facts.layer_names)
    embeds = torch.zeros(1, 1, adapter.config.projector["embed_dims"])
    nothing = dict.fromkeys(("azimuth", "elevation", "radius", "relative_pose"))
    conditions = make_conditions(broadcast(image_embeds=embeds, time=0.25, **nothing), 0, settings.view_encoding)
    timesteps = torch.linspace(999, 0, NUM_TIMESTEPS).long()

    @torch.no_grad()
    def one_pass() -> torch.Tensor:
        table = tabulate(adapter, text_encoder, conditions, timesteps)
        assert table is not None
        return table.words["time"].values[:, 0]  # (S, num_layers, D)

    @torch.no_grad()
    def pass_each() -> torch.Tensor:
        rows = []
        for t in timesteps:
            v_base, v_bypass = adapter.time_mapper(conditions.delta_time[:, None], t[None])  # (1, num_layers, D)
            clip_base = torch.cat([encode_alone(text_encoder, v_base[:, i]) for i in range(num_layers)])
            rows.append(combine(clip_base, v_bypass[0], settings.lambda_, settings.bypass_norm))
        return torch.stack(rows)  # (S, num_layers, D)

    return {"one_pass_s": one_pass, "pass_each_s": pass_each}


def encode_alone(text_encoder: Any, v_base: torch.Tensor) -> torch.Tensor:
    """CLIP(v_base) of one vector (1, D), by the text encoder's own layers."""
    model = getattr(text_encoder, "text_model", text_encoder)
    return model.final_layer_norm(model.encoder(inputs_embeds=v_base[:, None]).last_hidden_state[:, 0])


def stock_pipeline(base: BaseModel, adapter: Adapter) -> Any:
    """Diffusers' own pipeline around the same weights, the adapter's image prompt loaded as an IP-Adapter."""
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
    """A base of the sizes of Stable Diffusion 1.5, and an adapter with a prior of the default size."""
    base = build_sd15_base()
    generator = torch.Generator().manual_seed(0)
    vision: Any = base.image_encoder.config
    tokens = (vision.image_size // vision.patch_size) ** 2 + 1
    prior = DisplacementPrior(PriorConfig(tokens, vision.hidden_size, num_components=384), generator)
    return base, Adapter.from_base(base, AdapterSettings(), generator, prior).eval().requires_grad_(False)


if __name__ == "__main__":
    typer.run(main)
