"""Image embeddings of frames, read in parts: those of CLIP-H take 658 kB a frame, fifty times its JPEG."""

import hashlib
import math
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from fourdistill.features.augmentations import PLAIN, Augmentation
from fourdistill.features.files import FeatureReader
from fourdistill.models.codec import EmbeddingCodec
from fourdistill.pairs.frame_pairs import Key

PART = 512  # frames whose embeddings are in memory at a time
MAX_CODES = 2**28  # the most numbers of codes to hold in memory, 1 GiB; more go into a file


class FrameEmbeds:
    """The image embeddings of F frames, unchanged and with V - 1 augmentations; at most `PART` are in memory.

    Args:
        keys: the frames. features: a folder or an address. changes: the V augmentations.
    """

    def __init__(self, keys: Sequence[Key], features: Path | str, changes: Sequence[Augmentation] = (PLAIN,)):
        self.keys, self.changes = keys, changes
        self.reader = FeatureReader(features)
        self.digest = hashlib.sha256()  # of the embeddings that `encode` has read

    @property
    def shape(self) -> tuple[int, int]:
        """S, D of an embedding."""
        _, num_tokens, width = self.read(0, [0]).shape
        return num_tokens, width

    def read(self, variant: int, frames: Sequence[int]) -> torch.Tensor:
        """The embeddings (N, S, D) of some frames with one augmentation; raises `InputError` if they are missing."""
        read_one = partial(self._read_one, name=self.changes[variant].feature)
        rows = self.reader.store.each(read_one, [self.keys[frame] for frame in frames])
        return self.reader.to_embeds(np.stack(list(rows)))

    def _read_one(self, key: Key, name: str) -> np.ndarray:
        return self.reader.read(*key, name)

    def sample(self, num_embeds: int, seed: int) -> torch.Tensor:
        """Up to `num_embeds` of all variants' embeddings (N, S, D), float32, drawn without replacement."""
        count = len(self.keys) * len(self.changes)
        chosen = np.sort(np.random.default_rng(seed).permutation(count)[:num_embeds])
        variant, index = np.divmod(chosen, len(self.keys))
        numbers = range(len(self.changes))
        return torch.cat([self.read(v, index[variant == v].tolist()).float() for v in numbers if (variant == v).any()])

    def encode(self, codec: EmbeddingCodec) -> torch.Tensor:
        """The codes (V, F, K) of all frames: in memory or, past `MAX_CODES`, mapped from a file without a name."""
        codes = new_codes((len(self.changes), len(self.keys), codec.num_components))
        parts = [range(start, min(start + PART, len(self.keys))) for start in range(0, len(self.keys), PART)]
        for variant in range(len(self.changes)):
            for part in tqdm(parts, desc=f"encode {self.changes[variant].feature}", unit="part", disable=None):
                embeds = self.read(variant, part)
                self.digest.update(embeds.numpy().tobytes())
                codes[variant, part.start : part.stop] = codec.encode(embeds.float())
        return codes


def new_codes(shape: tuple[int, ...]) -> torch.Tensor:
    """An empty tensor of this shape; past `MAX_CODES` numbers it is a file in the system's temporary folder.

    The file is gone when the process ends, however it ends.
    """
    count = math.prod(shape)
    if count <= MAX_CODES:
        return torch.empty(shape)
    with tempfile.NamedTemporaryFile(suffix=".codes") as file:
        file.truncate(4 * count)  # float32
        return torch.from_file(file.name, shared=True, size=count).view(shape)
