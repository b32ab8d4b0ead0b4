"""Tiny shards in the layout of `write_shards`, with the latents that a test wants the model to learn."""

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from webdataset import writer

WIDTH, TOKENS, CHANNELS, SIZE = 32, 17, 4, 8


def toy_pair(index: int, rng: np.random.Generator) -> dict:
    """A pair's row: kinds alternate, displacements are random."""
    kind = ("time", "view", "joint")[index % 3]
    gap = float(rng.uniform(-1, 1)) if kind != "view" else 0.0
    azimuth = float(rng.uniform(-3, 3)) if kind != "time" else None
    return {
        "pair_id": index,
        "kind": kind,
        "scene": "toy",
        "source_camera": "cam00",
        "source_frame": 0,
        "target_camera": "cam00",
        "target_frame": 0,
        "gap": round(gap * 31),
        "gap_s": gap,
        "normalized_gap": gap,
        "relative_pose": None if azimuth is None else np.eye(4)[:3].ravel().tolist(),
        "delta_azimuth": azimuth,
        "delta_elevation": None if azimuth is None else 0.0,
        "delta_radius": None if azimuth is None else 0.0,
        "caption": "a man in a red top",
    }


def write_toy_shards(
    folder: Path,
    target: Callable[[dict, np.ndarray], np.ndarray],
    counts: dict[str, int] | None = None,
    make_pair: Callable[[int, np.random.Generator], dict] = toy_pair,
    num_tars: int = 1,
) -> Path:
    """Write `num_tars` tars per split of random embeddings; `target(pair, embeds)` gives the latents (C, h, w)."""
    folder.mkdir(parents=True)
    index: dict = {"features": True, "shards": []}
    for seed, (split, count) in enumerate((counts or {"train": 24, "val": 12, "test": 4}).items()):
        rng = np.random.default_rng(seed)
        samples = []
        for i in range(count):
            pair = make_pair(i, rng) | {"split": split}
            embeds = rng.standard_normal((TOKENS, WIDTH)).astype(np.float16)
            samples.append(
                {
                    "__key__": f"{i:09d}",
                    "json": json.dumps(pair).encode(),
                    "target_latents.npy": to_npy(target(pair, embeds)),
                    "source_embeds.npy": to_npy(embeds),
                }
            )
        for number in range(num_tars):
            name, mine = f"{split}-{number:06d}.tar", samples[number::num_tars]
            with writer.TarWriter(str(folder / name), mtime=0) as tar:
                for sample in mine:
                    tar.write(sample)
            content = (folder / name).read_bytes()
            facts = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            index["shards"].append({"name": name, "split": split, "samples": len(mine)} | facts)
    (folder / "index.json").write_text(json.dumps(index))
    return folder


def to_npy(array: np.ndarray) -> bytes:
    """An array as the bytes of an fp16 .npy file."""
    stream = io.BytesIO()
    np.save(stream, array.astype(np.float16))
    return stream.getvalue()


def noise_target(pair: dict, embeds: np.ndarray) -> np.ndarray:
    """Unpredictable latents."""
    return np.random.default_rng(pair["pair_id"]).standard_normal((CHANNELS, SIZE, SIZE))
