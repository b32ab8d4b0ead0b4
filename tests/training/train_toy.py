"""A training of the tiny base as a separate program, for tests that launch it on several processes or kill it.

python train_toy.py BASE SHARDS FOLDER SETTINGS: `SETTINGS` is JSON that overrides those below. Losses are written to
FOLDER/live, the number of U-Net bytes held by each process at the end to FOLDER/held-RANK.
"""

import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from stage_settings import changed, train_settings
from tiny_adapters import start_tiny_adapter
from torch.distributed.tensor import DTensor

from fourdistill.inference.pipeline import FourDistillPipeline
from fourdistill.models.adapter import Adapter
from fourdistill.models.base.model import BaseModel, load_base
from fourdistill.training.mappers.train import train

SETTINGS = train_settings(
    batch_size=8, max_steps=4, warmup_steps=2, timestep_bias=0.0, validate_every=100, sample_every=100,
    num_val_pairs=4, gap_timesteps=[900], learning_rate=1e-2, logging={"every": 1},
    checkpoints={"every": 100, "keep": 1},
)  # fmt: skip


def main(base_folder: str, shards: str, folder: Path, changes: dict) -> None:
    """Train a mapper and log every step."""
    base = load_base(base_folder)
    settings = changed(SETTINGS, **changes)
    adapter = start_tiny_adapter(base, mapper_input=settings.mappers.mapper_input)
    watch_the_end()
    train(
        Path(shards),
        base,
        adapter,
        settings,
        seed=0,
        adapter_folder=folder / "adapter",
        live_folder=folder / "live",
        checkpoint_folder=folder / "checkpoint",
        draw_samples=draw,
    )
    held = sum(p.to_local().nbytes if isinstance(p, DTensor) else p.nbytes for p in base.unet.parameters())
    (folder / f"held-{os.environ.get('RANK', 0)}").write_text(str(held))


def watch_the_end() -> None:
    """Fail if DDP's model still exists when the process group is destroyed: some processes would then hang."""
    destroy = torch.distributed.destroy_process_group

    def checked(*args: Any) -> None:
        ddp = torch.nn.parallel.DistributedDataParallel
        held = any(issubclass(type(each), ddp) for each in gc.get_objects())  # isinstance would resolve weak proxies
        assert not held, "the process group ends before DDP's model"
        destroy(*args)

    torch.distributed.destroy_process_group = checked


def draw(base: BaseModel, adapter: Adapter) -> Image.Image:
    """A picture generated from a grey one in a few U-Net calls."""
    pipe = FourDistillPipeline.from_parts(base, adapter)
    grey = Image.new("RGB", (64, 64), "grey")
    return pipe(grey, num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images[0]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), json.loads(sys.argv[4]))
