"""Pairs as codes: all that the displacement prior trains on, small enough to stay in memory."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from math import ceil
from pathlib import Path

import torch

from fourdistill.data.loader import Batch, make_loader
from fourdistill.models.codec import EmbeddingCodec
from fourdistill.models.conditions import Conditions
from fourdistill.training.batches import make_conditions

READ_SIZE = 256  # pairs decoded at once


@dataclass(frozen=True)
class CodedPairs:
    """Conditions with the source's codes (N, K) for image_embeds, and the codes of the targets (N, K)."""

    conditions: Conditions
    targets: torch.Tensor

    def __len__(self) -> int:
        return len(self.targets)


def read_embeds(shards: Path, num_embeds: int, seed: int) -> torch.Tensor:
    """Image embeddings of both ends of training pairs, up to `num_embeds` of them, (N, S, D)."""
    both = [embeds for batch in read_pairs(shards, "train", num_embeds // 2, seed) for embeds in embeds_of(batch)]
    return torch.cat(both)[:num_embeds]


def read_codes(
    shards: Path, split: str, codec: EmbeddingCodec, view_encoding: str, num_pairs: int, seed: int
) -> CodedPairs:
    """Up to `num_pairs` pairs of a split, a random choice where there are more."""
    conditions, targets = [], []
    for batch in read_pairs(shards, split, num_pairs, seed):
        source, target = (codec.encode(embeds) for embeds in embeds_of(batch))
        conditions.append(replace(make_conditions(batch, view_encoding), image_embeds=source))
        targets.append(target)
    return CodedPairs(Conditions.cat(conditions)[:num_pairs], torch.cat(targets)[:num_pairs])


def read_pairs(shards: Path, split: str, num_pairs: int, seed: int) -> Iterator[Batch]:
    """Batches of at least `num_pairs` pairs, where there are as many; at least one."""
    loader = make_loader(shards, split, READ_SIZE, seed=seed, shuffle=True, epochs=1, target_embeds=True)
    return islice(loader, max(1, ceil(num_pairs / READ_SIZE)))


def embeds_of(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Source and target embeddings, (B, S, D) each."""
    assert batch.target_embeds is not None  # the loader was asked for them
    return batch.source_embeds, batch.target_embeds
