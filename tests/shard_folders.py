"""Folders of many small shards with their index, in the layout of write_shards."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
from webdataset.writer import TarWriter

SHAPES = ((4, 8, 8), (9, 16))  # of latents and image embeddings


def write_shard_folder(
    folder: Path,
    num_shards: int = 8,
    samples: int = 10,
    split: str = "train",
    first_id: int = 0,
    shapes: tuple[tuple[int, ...], tuple[int, ...]] = SHAPES,
    jpeg_bytes: int = 1300,
) -> Path:
    """Write shards whose samples are numbered from `first_id`; the features of a sample are its number over 8."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = json.loads((folder / "index.json").read_text())["shards"] if (folder / "index.json").exists() else []
    for number in range(num_shards):
        path = folder / f"{split}-{number:06d}.tar"
        with path.open("wb") as file, TarWriter(file, encoder=False, mtime=0) as tar:
            for i in range(samples):
                tar.write(sample(first_id + number * samples + i, split, shapes, jpeg_bytes))
        content = path.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        entries.append({"name": path.name, "split": split, "samples": samples, "bytes": len(content), "sha256": sha256})
    (folder / "index.json").write_text(json.dumps({"version": "0", "features": True, "shards": entries}))
    return folder


def sample(number: int, split: str, shapes: tuple[tuple[int, ...], tuple[int, ...]], jpeg_bytes: int) -> dict:
    """A sample of a view pair."""
    pair = {
        "pair_id": number, "kind": "view", "split": split, "caption": None, "normalized_gap": 0.0,
        "relative_pose": [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        "delta_azimuth": 0.5, "delta_elevation": 0.0, "delta_radius": 0.0,
    }  # fmt: skip
    return {
        "__key__": f"{number:09d}",
        "json": json.dumps(pair).encode(),
        "source.jpg": b"not looked at" * (jpeg_bytes // 13),
        "target.jpg": b"not looked at" * (jpeg_bytes // 13),
        "target_latents.npy": to_npy(np.full(shapes[0], number / 8)),
        "source_embeds.npy": to_npy(np.full(shapes[1], number / 8)),
    }


def to_npy(array: np.ndarray, dtype: type[np.floating] = np.float16) -> bytes:
    """An array as the bytes of an .npy file."""
    stream = io.BytesIO()
    np.save(stream, array.astype(dtype))
    return stream.getvalue()


def ids(batches) -> list[int]:
    """The numbers of the samples in batches, in order."""
    return [number for batch in batches for number in batch.pair_id.tolist()]
