"""Sampling of frame pairs: a scene, a gap, then a valid start. This module works only on row numbers.

A scene is a grid of cameras x instants. For each pair, the scene is drawn first, then |gap| evenly over the scene's
possible gaps, then its sign, and last a start (and cameras) uniformly among all valid ones. So short and long gaps
are equally frequent, although short gaps have many more starts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fourdistill.tables import KINDS, SPLITS

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

FROM_TEACHER = len(SPLITS)
"""Stands for the split of a teacher's frames, which are targets of training pairs only."""

# Splits of the sources for each target split: held-out cameras and times may also start from training frames.
_SOURCES = {"train": ("train",), "val": ("train", "val"), "test": ("train", "test")}


@dataclass(frozen=True)
class SceneGrid:
    """One scene, cameras x instants (C, N): `rows` of the frames table (-1: no frame), `splits` (indices into
    `SPLITS`, or `FROM_TEACHER`), and `across`: whether a frame can be paired across cameras (pose known,
    synchronised). A camera whose poses are `moving` (C,) counts as a different camera at every instant: two of its
    frames are a joint pair, never a time pair.
    """

    rows: Ints
    splits: NDArray[np.int8]
    across: Bools
    moving: Bools
    max_gap: int

    def masks(self, split: str, kind: str) -> tuple[Bools, Bools]:
        """Frames (C, N) that may be targets of a split, and those that may be sources."""
        there = (self.rows >= 0) & (~self.moving[:, None] if kind == "time" else self.across)
        targets = [SPLITS.index(split)] + [FROM_TEACHER] * (split == "train")
        target = there & np.isin(self.splits, targets)
        source = there & np.isin(self.splits, [SPLITS.index(name) for name in _SOURCES[split]])
        return target, source

    def count_pairs(self, split: str, kind: str) -> Ints:
        """Number of pairs at gap -(N-1) ... N-1, source = target + gap, (2N-1,); zero beyond `max_gap`."""
        target, source = (mask.astype(np.int64) for mask in self.masks(split, kind))
        same_camera = np.zeros(2 * target.shape[1] - 1, np.int64)
        for camera in np.flatnonzero(self._apart(kind)):
            same_camera += np.correlate(source[camera], target[camera], "full")
        counts = same_camera if kind == "time" else np.correlate(source.sum(0), target.sum(0), "full") - same_camera
        gaps = np.abs(np.arange(len(counts)) - (len(counts) // 2))
        allowed = gaps == 0 if kind == "view" else (gaps > 0) & (gaps <= self.max_gap)
        return np.where(allowed, counts, 0)

    def _apart(self, kind: str) -> Bools:
        """Cameras (C,) whose own frames are not a pair across cameras: static ones; for kind view, all."""
        return np.ones_like(self.moving) if kind == "view" else ~self.moving

    def draw(
        self, masks: tuple[Bools, Bools], kind: str, gap: int, num: int, rng: np.random.Generator
    ) -> tuple[Ints, Ints]:
        """Table rows of `num` targets and of their sources, uniformly among all pairs of one gap, with replacement.

        `masks`: of the split and this kind.
        """
        target, source = masks
        first, last = max(0, -gap), target.shape[1] - max(0, gap)
        target, source = target[:, first:last], source[:, first + gap : last + gap]  # (C, n), aligned
        if kind == "time":
            partners = (target & source).astype(np.int64)
        else:
            partners = target * (source.sum(0) - self._apart(kind)[:, None] * source)  # sources in other cameras
        cumulative = partners.ravel().cumsum()
        pick = rng.integers(cumulative[-1], size=num)
        cell = np.searchsorted(cumulative, pick, side="right")
        camera, start = np.divmod(cell, target.shape[1])
        source_camera = camera
        if kind != "time":
            rank = cumulative[cell] - 1 - pick  # which of the target's partners
            candidates = source[:, start].copy()  # (C, num)
            candidates[camera, np.arange(num)] &= ~self._apart(kind)[camera]
            source_camera = np.argmax(candidates.cumsum(0) > rank, axis=0)
        return self.rows[camera, start + first], self.rows[source_camera, start + first + gap]


def sample_pairs(
    grids: Sequence[SceneGrid],
    split: str,
    num_pairs: int,
    kinds: Mapping[str, float],
    *,
    bidirectional: bool,
    rng: np.random.Generator,
) -> tuple[Ints, Ints, NDArray[np.int8]]:
    """Rows of targets (num_pairs,), rows of sources, and indices into `KINDS`, in random order.

    Kinds have the proportions of `kinds`; the share of a kind that no scene offers goes to the others. A kind is
    divided evenly among the scenes that offer it. All three arrays are empty if there is no valid pair.
    """
    targets, sources, kind_indices = [], [], []
    offers = {kind: _offers(grids, split, kind, bidirectional) for kind in KINDS if kinds.get(kind, 0) > 0}
    weights = {kind: kinds[kind] for kind, scenes in offers.items() if scenes}
    for kind, num_kind in _apportion(num_pairs, weights).items():
        scenes = offers[kind]
        taken = np.zeros(max(len(counts) for _, counts in scenes) // 2 + 1, np.int64)  # pairs per |gap| so far
        for (grid, counts), num_scene in zip(scenes, _divide_evenly(num_kind, len(scenes), rng), strict=True):
            masks = grid.masks(split, kind)
            for gap, num in _gaps(counts, int(num_scene), taken, bidirectional, rng):
                target, source = grid.draw(masks, kind, gap, num, rng)
                targets.append(target)
                sources.append(source)
                kind_indices.append(np.full(num, KINDS.index(kind), np.int8))
    if not targets:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int8)
    order = rng.permutation(sum(map(len, targets)))  # so that any contiguous part of the table is a fair sample
    return np.concatenate(targets)[order], np.concatenate(sources)[order], np.concatenate(kind_indices)[order]


def _offers(grids: Sequence[SceneGrid], split: str, kind: str, bidirectional: bool) -> list[tuple[SceneGrid, Ints]]:
    """The scenes that have pairs of this kind, with their counts per gap."""
    offers = []
    for grid in grids:
        counts = grid.count_pairs(split, kind)
        if not bidirectional:
            counts[: len(counts) // 2] = 0  # only gaps with the source after the target
        if counts.any():
            offers.append((grid, counts))
    return offers


def _gaps(
    counts: Ints, num: int, taken: Ints, bidirectional: bool, rng: np.random.Generator
) -> Iterator[tuple[int, int]]:
    """Signed gaps and their numbers of pairs: even over |gap|, and half of each sign where both are possible.

    The remainder goes to the gaps with the fewest pairs `taken` by earlier scenes (updated in place).
    """
    zero = len(counts) // 2
    back, forth = counts[zero:], counts[zero::-1]  # by |gap|: source after target, source before target
    sizes = np.flatnonzero(back + forth)
    shares = np.full(len(sizes), num // len(sizes))
    shares[np.lexsort((rng.random(len(sizes)), taken[sizes]))[: num % len(sizes)]] += 1
    taken[sizes] += shares
    for size, num_size in zip(sizes, shares, strict=True):
        if size == 0:
            ways = [(0, num_size)]
        elif not back[size]:
            ways = [(-size, num_size)]
        elif not bidirectional or not forth[size]:
            ways = [(size, num_size)]
        else:
            num_back = (num_size + rng.integers(2)) // 2
            ways = [(size, num_back), (-size, num_size - num_back)]
        yield from ((int(gap), int(share)) for gap, share in ways if share)


def _divide_evenly(total: int, num_bins: int, rng: np.random.Generator) -> Ints:
    """`total` over bins as evenly as integers allow; the remainder goes to random bins."""
    shares = np.full(num_bins, total // num_bins, np.int64)
    shares[rng.permutation(num_bins)[: total % num_bins]] += 1
    return shares


def _apportion(total: int, weights: Mapping[str, float]) -> dict[str, int]:
    """`total` divided in proportion to weights, as integers, by largest remainders."""
    if not weights:
        return {}
    exact = {name: total * weight / sum(weights.values()) for name, weight in weights.items()}
    shares = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: shares[name] - exact[name])
    for name in by_remainder[: total - sum(shares.values())]:
        shares[name] += 1
    return shares
