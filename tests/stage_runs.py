"""The data stages on a tiny scene, by the library: for tests that run them in other places and interrupt them."""

import hashlib
from pathlib import Path

from tiny_scenes import SIZE, write_dynerf

from fourdistill.features.encode import FrameEncoder
from fourdistill.features.files import encode_frames
from fourdistill.frames.extract import extract_frames
from fourdistill.frames.splits import SplitRule
from fourdistill.pairs.build import build_pairs
from fourdistill.shards.write import write_shards
from fourdistill.sources.readers import SourceFolder, read_source

STAGES = ("extract_frames", "build_pairs", "encode_frames", "write_shards")
OUTPUTS = {
    "extract_frames": ("frames", "frames.parquet", "scenes.parquet", "frames.json"),
    "build_pairs": ("pairs.parquet", "pairs.json", "gaps.csv"),
    "encode_frames": ("features",),
    "write_shards": ("shards",),
}


def write_scenes(folder: Path) -> None:
    """Raw data: two scenes of three cameras."""
    for seed, name in enumerate(("kick", "walk")):
        write_dynerf(folder / "raw" / name, 3, 6, seed=seed)


def run_stage(stage: str, folder: Path, base: str, engine: str = "loky", jobs: int = 1, at: str | None = None) -> None:
    """Run one stage on what is in `folder`, into it; frames, features and shards may be `at` an address instead."""
    workers = {"engine": engine, "jobs": jobs}
    pairs_table, frames_table = folder / "pairs.parquet", folder / "frames.parquet"
    scenes_table = folder / "scenes.parquet"
    frames, features, shards = (f"{at or folder}/{name}" for name in ("frames", "features", "shards"))
    if stage == "extract_frames":
        scenes = read_source(SourceFolder(folder / "raw", "dynerf"))
        outputs = {"split": SplitRule(test_cameras=["cam01"]), "index_copy": folder / "frames.index.json"}
        extract_frames(
            scenes, frames, frames_table, scenes_table, folder / "frames.json", size=SIZE, **outputs, **workers
        )
    elif stage == "build_pairs":
        counts, kinds = {"train": 60, "test": 20}, {"time": 1, "view": 1, "joint": 1}
        outputs = (folder / name for name in OUTPUTS[stage])
        build_pairs(frames_table, scenes_table, *outputs, num_pairs=counts, kinds=kinds)
    elif stage == "encode_frames":
        copy = folder / "features.index.json"
        encode_frames(frames_table, frames, features, FrameEncoder(base), batch_size=4, index_copy=copy, **workers)
    else:
        copy = folder / "shards.index.json"
        write_shards(pairs_table, frames, features, shards, shard_size_mb=0.1, index_copy=copy, **workers)


def digests(folder: Path, stage: str) -> dict[str, str]:
    """SHA-256 of every file that a stage has written, by name."""
    found = {}
    for output in OUTPUTS[stage]:
        path = folder / output
        for file in sorted(path.rglob("*")) or [path]:
            if file.is_file():
                found[str(file.relative_to(folder))] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found
