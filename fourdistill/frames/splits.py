"""The split of frames into train, val and test by scene, by camera and by normalised time."""

from collections.abc import Collection, Sequence

import numpy as np
from pydantic.dataclasses import dataclass

from fourdistill.config import STRICT, Interval
from fourdistill.sources.names import canonical


@dataclass(frozen=True, config=STRICT)
class SplitRule:
    """What is held out of training. Names may be absent from a capture, so that one rule serves several captures."""

    test_scenes: list[str]
    val_scenes: list[str]
    test_cameras: list[str]
    test_times: list[Interval]  # closed intervals of `time`, in [0, 1]
    held_out_in: list[str] | None  # the scenes in which these cameras and times are held out; null: all

    def split(
        self,
        scene: str,
        camera: str,
        time: np.ndarray,
        of_frames: Sequence[str | None] | None = None,
        of_scene: str | None = None,
    ) -> np.ndarray:
        """Split name of each frame (N,) of one film at normalised times (N,); test takes precedence over val.

        `of_frames` (N,) and `of_scene` are the source's own splits, which this rule may override.
        """
        usual = of_scene or "train"
        split = np.array([name or usual for name in of_frames or [None] * len(time)], dtype="<U5")
        if _is_one(scene, self.val_scenes):
            split[:] = "val"
        if _is_one(scene, self.test_scenes):
            split[:] = "test"
        if self.held_out_in is not None and not _is_one(scene, self.held_out_in):
            return split
        if _is_one(camera, self.test_cameras):
            split[:] = "test"
        for first, last in self.test_times:
            split[(time >= first) & (time <= last)] = "test"
        return split

    def unmatched(self, scenes: set[str], cameras: set[str]) -> list[str]:
        """Names of this rule that match no frame. They are reported, because a misspelt name holds nothing out."""
        named = {*self.test_scenes, *self.val_scenes, *(self.held_out_in or ())}
        missing_scenes = sorted(name for name in named if not _is_one(name, scenes))
        return missing_scenes + sorted(name for name in set(self.test_cameras) if not _is_one(name, cameras))


def _is_one(name: str, names: Collection[str]) -> bool:
    return canonical(name) in set(map(canonical, names))
