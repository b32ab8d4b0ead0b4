"""The camera x time grids of scenes with the features of all their true frames, in which images are located."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fourdistill.evaluation.metrics.control import Outcomes, outcomes
from fourdistill.evaluation.metrics.feature_spaces import FeatureSpaces
from fourdistill.evaluation.metrics.retrieval import Grid, read_grids
from fourdistill.evaluation.protocol.command import Command
from fourdistill.evaluation.protocol.frames import FrameReader


@dataclass(frozen=True)
class Cells:
    """All frames of some scenes."""

    grids: Mapping[str, Grid]
    """By scene."""
    features: Mapping[str, Mapping[str, np.ndarray]]
    """By scene, then by space: the features of the grid's frames (N, D)."""

    def locate(self, commands: Sequence[Command], features: np.ndarray, space: str) -> Outcomes:
        """Locate the images of commands by their features (M, D) in one space."""
        return outcomes(commands, features, self.grids, {scene: of[space] for scene, of in self.features.items()})

    def target(self, command: Command, space: str) -> np.ndarray:
        """The features (D,) of the frame that a perfect model would return."""
        scene = command.target.scene
        return self.features[scene][space][self.grids[scene].index(command.target)]


def read_cells(
    scenes: Collection[str], frames_table: Path, scenes_table: Path, read: FrameReader, spaces: FeatureSpaces
) -> Cells:
    """Read the grids of some scenes and encode all their frames; raises `InputError` if a scene or frame is missing."""
    grids = read_grids(frames_table, scenes_table, sorted(scenes))
    return Cells(
        grids,
        {
            scene: spaces((read(key) for key in grid.keys), len(grid.keys), f"features, grid of {scene}")
            for scene, grid in grids.items()
        },
    )
