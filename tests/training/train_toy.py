"""A training of the tiny base as a program of its own, for tests that launch it on many processes or kill it.

python train_toy.py BASE SHARDS FOLDER SETTINGS: `SETTINGS` is JSON over those below. Losses end up in FOLDER/live,
and FOLDER/held-RANK says how many bytes of the U-Net each process had at the end.
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
    """Let the process group's end fail where DDP's model is still there: some of these processes would never end."""
    destroy = torch.distributed.destroy_process_group

    def checked(*args: Any) -> None:
        ddp = torch.nn.parallel.DistributedDataParallel
        held = any(issubclass(type(each), ddp) for each in gc.get_objects())  # isinstance would wake weak proxies
        assert not held, "the process group ends before DDP's model"
        destroy(*args)

    torch.distributed.destroy_process_group = checked


def draw(base: BaseModel, adapter: Adapter) -> Image.Image:
    """A grey picture seen again, with a few calls of the U-Net."""
    pipe = FourDistillPipeline.from_parts(base, adapter)
    grey = Image.new("RGB", (64, 64), "grey")
    return pipe(grey, num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images[0]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), json.loads(sys.argv[4]))
