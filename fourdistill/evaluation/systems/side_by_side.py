"""The systems scored side by side: the model, its baselines, and the ceiling set by its autoencoder.

| prefix | images |
|---|---|
| (none) | the model |
| `baseline.copy.` | the condition itself |
| `baseline.zero.` | the model with a displacement of zero |
| `baseline.shuffled.` | the model with another command's displacement |
| `baseline.lambda_0.` | the model without the bypass of equation (1) |
| `baseline.nearest_train.` | the training frame nearest to the truth: the best that memorisation can achieve |
| `ceiling.vae.` | the truth reconstructed by the autoencoder |
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fourdistill.evaluation.metrics.feature_spaces import FeatureSpaces
from fourdistill.evaluation.protocol.command import Command, FrameKey
from fourdistill.evaluation.systems.generate import Painter
from fourdistill.features.files import FeatureReader
from fourdistill.features.images import LATENTS
from fourdistill.tables import FRAMES, read_table

MODEL, COPY, VAE, GAIN = "", "baseline.copy.", "ceiling.vae.", "gain.copy."
ZERO, SHUFFLED, LAMBDA_0, NEAREST = (
    "baseline.zero.",
    "baseline.shuffled.",
    "baseline.lambda_0.",
    "baseline.nearest_train.",
)
MAX_TRAIN_FRAMES = 8192

Pictures = dict[str, list[Image.Image]]
"""Prefix => one image per command, all of the base's size."""


def paint_systems(
    paint: Painter,
    spaces: FeatureSpaces,
    groups: Sequence[Sequence[Command]],
    nearest: Sequence[FrameKey],
    rng: np.random.Generator,
    *,
    baselines: bool = True,
) -> Pictures:
    """Generate the images of every system for the commands of all groups, group by group.

    Displacements are shuffled within a group. `nearest` is the result of `nearest_train` for the commands. Without
    `baselines`, those that the model generates are left out: they take three times as long as the model's own images.
    """
    commands = [command for group in groups for command in group]
    painted = {MODEL: paint(commands, "generate")}
    if baselines:
        painted |= {
            LAMBDA_0: paint(commands, "lambda 0", lambda_=0.0),
            ZERO: paint([command.still() for command in commands], "displacement zero"),
            SHUFFLED: paint([command for group in groups for command in shuffled(group, rng)], "displacement shuffled"),
        }
    if nearest:
        painted[NEAREST] = [paint.read(key) for key in nearest]
    return painted | {
        COPY: [paint.read(command.source) for command in commands],
        VAE: spaces.reconstruct([paint.read(command.target) for command in commands]),
    }


def shuffled(commands: Sequence[Command], rng: np.random.Generator) -> list[Command]:
    """Shuffle displacements among the commands of one kind; if there are several, none keeps its own."""
    moved: list[Command] = list(commands)
    for kind in {command.kind: None for command in commands}:
        members = [i for i, command in enumerate(commands) if command.kind == kind]
        order = rng.permutation(members)  # a cycle through all members, so each takes another's
        for receiver, giver in zip(order, np.roll(order, 1), strict=True):
            moved[receiver] = commands[receiver].moved_like(commands[giver])
    return moved


def nearest_train(
    commands: Sequence[Command], frames_table: Path, features_dir: Path | str, rng: np.random.Generator
) -> list[FrameKey]:
    """The training frame nearest to each command's target in VAE latents, among at most `MAX_TRAIN_FRAMES`.

    Empty if the table has no training frames, as for data used only for evaluation.
    """
    rows = read_table(frames_table, FRAMES, ["scene", "camera", "frame_index", "split"]).to_pylist()
    keys = [FrameKey(row["scene"], row["camera"], row["frame_index"]) for row in rows if row["split"] == "train"]
    if not keys:
        return []
    keys = [keys[i] for i in np.sort(rng.permutation(len(keys))[:MAX_TRAIN_FRAMES])]
    reader = FeatureReader(features_dir)

    def latents(key: FrameKey) -> np.ndarray:
        return reader.read(key.scene, key.camera, key.frame, LATENTS).ravel()  # (C * h * w,)

    known = np.stack(list(reader.store.each(latents, keys))).astype(np.float32)  # (N, D)
    truth = np.stack([latents(command.target) for command in commands]).astype(np.float32)  # (M, D)
    squared = (known**2).sum(1) - 2 * truth @ known.T  # (M, N), up to a constant per row
    return [keys[i] for i in squared.argmin(1)]
