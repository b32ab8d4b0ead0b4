"""Pairs as codes: the displacement prior's training data, a few hundred numbers a frame."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from fourdistill.features.augmentations import PLAIN, Augmentation
from fourdistill.geometry.displacement import Displacement
from fourdistill.models.conditions import Conditions
from fourdistill.models.mirror import mirrored
from fourdistill.models.view_encoding import to_tensors
from fourdistill.pairs.frame_pairs import FramePairs


class PairCodes:
    """The pairs of a split with the codes of their frames, unchanged and with V - 1 augmentations.

    An augmented scene counts as another scene; mirroring flips the sign of every azimuth.
    """

    def __init__(self, pairs: FramePairs, codes: torch.Tensor, changes: Sequence[Augmentation] = (PLAIN,)):
        """`codes` (V, F, K) of the pairs' frames, for each of V `changes`."""
        self.weight = torch.from_numpy(pairs.weight)
        self.source, self.target, self.codes = torch.from_numpy(pairs.source), torch.from_numpy(pairs.target), codes
        plain = to_tensors(pairs.displacement, torch.device("cpu"), torch.float32)
        self.displacement = Displacement.merge([plain, mirrored(plain)], torch.stack)  # (2, N)
        self.mirrored = torch.tensor([int(change.mirror) for change in changes])  # (V,)
        self._by_target = self.target.argsort(stable=True)  # pairs of one target side by side
        self._group_size = torch.bincount(self.target, minlength=len(pairs.keys))  # by frame
        self._group_start = self._group_size.cumsum(0) - self._group_size

    def __len__(self) -> int:
        return len(self.source)

    @property
    def num_variants(self) -> int:
        """V: the unchanged frames and each augmentation."""
        return len(self.codes)

    def __call__(self, index: torch.Tensor, variant: torch.Tensor) -> "CodedPairs":
        """Samples of N pairs with one target by index (B, N), each with augmentation number `variant` (B,)."""
        images = [self._conditions(column, variant) for column in index.unbind(1)]
        codes = tuple(self.codes[variant, self.source[column]] for column in index.unbind(1))  # N of (B, K)
        conditions = replace(images[0], others=tuple(images[1:]))
        first = index[:, 0]
        return CodedPairs(codes, conditions, self.codes[variant, self.target[first]], self.weight[first])

    def _conditions(self, index: torch.Tensor, variant: torch.Tensor) -> Conditions:
        return Conditions(
            image_embeds=torch.empty(len(index), 0),  # replaced by codes
            has_image=torch.ones(len(index), dtype=torch.bool),
            displacement=self.displacement[self.mirrored[variant], index],
        )

    def more_sources(self, index: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
        """Pairs by index (B,) => each with `count` more random pairs of the same target, (B, 1 + count)."""
        first, number = self._group_start[self.target[index]], self._group_size[self.target[index]]  # (B,)
        draws = torch.rand(len(index), count, generator=generator)
        drawn = self._by_target[first[:, None] + (draws * number[:, None]).long()]  # (B, count)
        return torch.cat([index[:, None], drawn], dim=1)


@dataclass(frozen=True)
class CodedPairs:
    """Codes of the N sources, (B, K) each, their displacements, codes of the targets (B, K) and their weights (B,)."""

    sources: tuple[torch.Tensor, ...]
    conditions: Conditions
    targets: torch.Tensor
    weight: torch.Tensor
