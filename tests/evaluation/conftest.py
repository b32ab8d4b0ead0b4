from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from grid_scenes import frame_rows, write_frames
from PIL import Image
from stage_settings import pair_settings, settings_of
from tiny_scenes import SIZE

from fourdistill.features.encode import encode_images
from fourdistill.features.files import encode_frames
from fourdistill.models.base.model import load_base
from fourdistill.pairs.build import build_pairs


@pytest.fixture(scope="session")
def grid_scenes(tmp_path_factory):
    """Two scenes, `walk` fully held out: frames, their table, 60 test pairs by the real stage. Read only."""
    folder = tmp_path_factory.mktemp("grid")
    rows = frame_rows("kick", "train") + frame_rows("walk", "test")
    rng = np.random.default_rng(0)
    for row in rows:
        path = folder / "frames" / row["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(path, quality=95)
    table = write_frames(folder / "frames.parquet", rows)
    pairs = folder / "pairs.parquet"
    build_pairs(
        table,
        folder / "scenes.parquet",
        pairs,
        folder / "pairs.json",
        folder / "gaps.csv",
        pair_settings({"train": 30, "test": 60}, {"time": 0.4, "view": 0.3, "joint": 0.3}),
        settings_of("displacement"),
        seed=0,
    )
    scenes = folder / "scenes.parquet"
    return SimpleNamespace(frames=folder / "frames", frames_table=table, scenes_table=scenes, pairs_table=pairs)


@pytest.fixture(scope="session")
def features(tiny_base, grid_scenes, tmp_path_factory):
    """Output of `encode_frames` for the grid's frames."""
    folder = tmp_path_factory.mktemp("features") / "features"
    encode = partial(encode_images, load_base(str(tiny_base)))
    encode_frames(
        grid_scenes.frames_table,
        grid_scenes.frames,
        folder,
        encode,
        settings_of("encode_frames", batch_size=16, jobs=1),
    )
    return folder
