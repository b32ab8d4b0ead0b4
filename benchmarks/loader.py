"""Throughput of the loader, compared with stock WebDataset on the same tars, from disk and from S3 on loopback.

    python benchmarks/loader.py                      # needs the extras dev and s3; about three minutes
    python benchmarks/loader.py --rounds 1 --shards 4 --samples 200 --no-unet

The benchmark generates shards like those of `write_shards` with features of the mini base. Every figure is the median
over rounds in which all contenders alternate, so that other load on the machine affects all of them equally:

    stock               WebDataset iterating the tars, undecoded
    local               the loader in this process, shuffled and decoded
    local_1, local_2    the loader with 1 or 2 worker processes
    s3                  the loader in this process, from SeaweedFS on 127.0.0.1
    sd15_step           samples per second of a training step of an SD 1.5-sized U-Net: forward and backward to the
                        conditioning, random weights, batch 2 of 256 pixels (32 x 32 latents), bf16 if the processor
                        supports it
"""

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import fsspec
import torch
import typer
from diffusers import UNet2DConditionModel
from webdataset import WebDataset  # pyright: ignore[reportAttributeAccessIssue]  # exported lazily

from fourdistill.models.base.precision import default_device, resolve_precision
from fourdistill.shards.loader.batches import make_loader
from fourdistill.shards.publish import publish_shards

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from s3_server import BUCKET, credentials, running_s3
from shard_folders import write_shard_folder

# Shapes of the mini base's latents and image embeddings; bytes of a JPEG of 128 pixels.
SHAPES, JPEG_BYTES = ((8, 16, 16), (65, 192)), 4500


def main(
    shards: int = 8,
    samples: Annotated[int, typer.Option(help="Of each shard.")] = 1000,
    batch_size: int = 32,
    rounds: int = 5,
    unet: Annotated[bool, typer.Option(help="Measure the SD 1.5-sized step, too: needs 8 GB of memory.")] = True,
) -> None:
    """Print samples per second and their ratios as JSON."""
    with tempfile.TemporaryDirectory() as folder, running_s3(Path(folder) / "weed") as server:
        os.environ.update(credentials(server.endpoint))
        local = write_shard_folder(Path(folder) / "shards", shards, samples, shapes=SHAPES, jpeg_bytes=JPEG_BYTES)
        fsspec.filesystem("s3").mkdir(BUCKET)
        publish_shards(local, f"s3://{BUCKET}/shards")
        tars = [str(path) for path in sorted(local.glob("*.tar"))]

        def load(address: str, num_workers: int) -> Callable[[], int]:
            loader = make_loader(address, "train", batch_size, seed=0, shuffle=True, epochs=1, num_workers=num_workers)
            return lambda: sum(len(batch.caption) for batch in loader)

        rates = measure(
            {
                "stock": lambda: count(WebDataset(tars, shardshuffle=False)),
                "local": load(str(local), 0),
                "local_1": load(str(local), 1),
                "local_2": load(str(local), 2),
                "s3": load(f"s3://{BUCKET}/shards", 0),
            },
            rounds,
        )
    figures: dict[str, Any] = {name: round(statistics.median(values), 1) for name, values in rates.items()}
    figures["local/stock"] = ratio(rates, "local", "stock")
    figures["local_2/local_1"] = ratio(rates, "local_2", "local_1")
    figures["s3/local"] = ratio(rates, "s3", "local")
    if unet:
        figures["sd15_step"] = round(sd15_samples_per_s(), 3)
        figures["local/sd15_step"] = round(figures["local"] / figures["sd15_step"], 1)
    typer.echo(json.dumps(figures | {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}, indent=2))


def measure(contenders: dict[str, Callable[[], int]], rounds: int) -> dict[str, list[float]]:
    """Samples per second of each contender, in each round after a warm-up round."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for round_ in range(rounds + 1):
        for name, run in contenders.items():
            started = time.perf_counter()
            number = run()
            if round_:
                rates[name].append(number / (time.perf_counter() - started))
    return rates


def ratio(rates: dict[str, list[float]], over: str, under: str) -> float:
    """The median over rounds of the ratio of two rates."""
    return round(statistics.median(a / b for a, b in zip(rates[over], rates[under], strict=True)), 3)


def count(samples: Iterable[Any]) -> int:
    """Number of samples."""
    return sum(1 for _ in samples)


def sd15_samples_per_s(batch_size: int = 2, steps: int = 3) -> float:
    """Samples per second of an SD 1.5-sized U-Net, forward and backward to its context."""
    torch.manual_seed(0)
    device = default_device()
    precision = resolve_precision("auto", device)
    unet = UNet2DConditionModel(sample_size=32, cross_attention_dim=768, attention_head_dim=8)
    unet.requires_grad_(False).to(device)
    latents = torch.randn(batch_size, 4, 32, 32, device=device)
    context = torch.randn(batch_size, 77, 768, device=device).requires_grad_()
    times = []
    for _ in range(steps + 1):
        started = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = unet(latents, torch.tensor([500], device=device), context).sample.float().square().mean()
        loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return batch_size / statistics.median(times[1:])


if __name__ == "__main__":
    typer.run(main)
