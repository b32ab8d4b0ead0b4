"""The data stages on tiny scenes, for tests that run them elsewhere or interrupt them."""

import hashlib
from pathlib import Path

from stage_settings import frame_settings, pair_settings, settings_of, split_rule
from tiny_scenes import SIZE, write_dynerf

from fourdistill.features.encode import FrameEncoder
from fourdistill.features.files import encode_frames
from fourdistill.frames.extract import extract_frames
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
    """Write the raw data: two scenes of three cameras."""
    for seed, name in enumerate(("kick", "walk")):
        write_dynerf(folder / "raw" / name, 3, 6, seed=seed)


def run_stage(stage: str, folder: Path, base: str, engine: str = "loky", jobs: int = 1, at: str | None = None) -> None:
    """Run one stage with inputs and outputs in `folder`; frames, features and shards may be `at` an address instead."""
    workers = {"engine": engine, "jobs": jobs}
    pairs_table, frames_table = folder / "pairs.parquet", folder / "frames.parquet"
    scenes_table = folder / "scenes.parquet"
    frames, features, shards = (f"{at or folder}/{name}" for name in ("frames", "features", "shards"))
    if stage == "extract_frames":
        scenes = read_source(SourceFolder(folder / "raw", "dynerf"))
        settings = frame_settings(size=SIZE, split=split_rule(test_cameras=["cam01"]), **workers)
        copy = folder / "frames.index.json"
        extract_frames(scenes, frames, frames_table, scenes_table, folder / "frames.json", settings, index_copy=copy)
    elif stage == "build_pairs":
        counts, kinds = {"train": 60, "test": 20}, {"time": 1, "view": 1, "joint": 1}
        pairs_table, report, gaps = (folder / name for name in OUTPUTS[stage])
        settings, displacement = pair_settings(counts, kinds), settings_of("displacement")
        build_pairs(frames_table, scenes_table, pairs_table, report, gaps, settings, displacement, seed=0)
    elif stage == "encode_frames":
        copy = folder / "features.index.json"
        settings = settings_of("encode_frames", batch_size=4, **workers)
        encode_frames(frames_table, frames, features, FrameEncoder(base), settings, index_copy=copy)
    else:
        copy = folder / "shards.index.json"
        settings = settings_of("write_shards", shard_size_mb=0.1, max_pairs=None, **workers)
        write_shards(pairs_table, frames, features, shards, settings, index_copy=copy)


def digests(folder: Path, stage: str) -> dict[str, str]:
    """SHA-256 of every output file of a stage, by name."""
    found = {}
    for output in OUTPUTS[stage]:
        path = folder / output
        for file in sorted(path.rglob("*")) or [path]:
            if file.is_file():
                found[str(file.relative_to(folder))] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found
