"""The data stages on a tiny scene, by the library: for tests that run them in other places and interrupt them."""

import hashlib
from pathlib import Path

from tiny_scenes import SIZE, write_dynerf

from fourdistill.data.features import encode_frames
from fourdistill.data.frames import extract_frames
from fourdistill.data.pairs import build_pairs
from fourdistill.data.readers import SourceFolder, read_source
from fourdistill.data.shards import write_shards
from fourdistill.data.splits import SplitRule
from fourdistill.models.base import FrameEncoder

STAGES = ("extract_frames", "build_pairs", "encode_frames", "write_shards")
OUTPUTS = {
    "extract_frames": ("frames", "frames.parquet", "frames.json"),
    "build_pairs": ("pairs.parquet", "pairs.json", "gaps.csv"),
    "encode_frames": ("features",),
    "write_shards": ("shards",),
}


def write_scenes(folder: Path) -> None:
    """Raw data: two scenes of three cameras."""
    for seed, name in enumerate(("kick", "walk")):
        write_dynerf(folder / "raw" / name, 3, 6, seed=seed)


def run_stage(stage: str, folder: Path, base: str, engine: str = "loky", jobs: int = 1, shards=None) -> None:
    """Run one stage on what is in `folder`, into it (or shards elsewhere)."""
    workers = {"engine": engine, "jobs": jobs}
    if stage == "extract_frames":
        scenes = read_source(SourceFolder(folder / "raw", "dynerf"))
        split = SplitRule(test_cameras=["cam01"])
        outputs = (folder / name for name in OUTPUTS[stage])
        extract_frames(scenes, *outputs, size=SIZE, split=split, **workers)
    elif stage == "build_pairs":
        outputs = (folder / name for name in OUTPUTS[stage])
        counts, kinds = {"train": 60, "test": 20}, {"time": 1, "view": 1, "joint": 1}
        build_pairs(folder / "frames.parquet", *outputs, num_pairs=counts, kinds=kinds)
    elif stage == "encode_frames":
        features = folder / "features"
        encode_frames(
            folder / "frames.parquet", folder / "frames", features, FrameEncoder(base), batch_size=4, **workers
        )
    else:
        out = folder / "shards" if shards is None else shards
        pairs, frames, features = folder / "pairs.parquet", folder / "frames", folder / "features"
        write_shards(pairs, frames, features, out, shard_size_mb=0.1, **workers)


def digests(folder: Path, stage: str) -> dict[str, str]:
    """SHA-256 of every file that a stage has written, by name."""
    found = {}
    for output in OUTPUTS[stage]:
        path = folder / output
        for file in sorted(path.rglob("*")) or [path]:
            if file.is_file():
                found[str(file.relative_to(folder))] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found
