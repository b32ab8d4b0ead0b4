"""Image embeddings <=> short codes: scaled principal components.

The embeddings of one set of images lie near a low-dimensional linear space. Codes of a few hundred numbers replace
many thousands, so a model of embeddings is small and fast.
"""

import torch
from torch import nn

FIRST_STD = 4.0  # the scale to which the first component is brought


class EmbeddingCodec(nn.Module):
    """A linear code of image embeddings (S, D), fitted once by `fit_codec` and then fixed.

    mean, std (D,): of each channel. centre (S * D,): the mean of the normalized embeddings. components (S * D, K):
    orthonormal, by decreasing variance. scale (): the size of one unit of a code.

    Computed in the precision of the buffers even under autocast: their product with a few samples takes less time than
    their conversion, half a gigabyte for CLIP-H.
    """

    mean: torch.Tensor
    std: torch.Tensor
    centre: torch.Tensor
    components: torch.Tensor
    scale: torch.Tensor

    def __init__(self, num_tokens: int, width: int, num_components: int):
        super().__init__()
        self.num_tokens, self.width, self.num_components = num_tokens, width, num_components
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.register_buffer("centre", torch.zeros(num_tokens * width))
        self.register_buffer("components", torch.zeros(num_tokens * width, num_components))
        self.register_buffer("scale", torch.ones(()))

    def encode(self, image_embeds: torch.Tensor) -> torch.Tensor:
        """image_embeds (B, S, D) => codes (B, K)."""
        with torch.autocast(image_embeds.device.type, enabled=False):
            x = ((image_embeds - self.mean) / self.std).flatten(1) - self.centre  # (B, S * D)
            return x @ self.components / self.scale

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """codes (B, K) => image_embeds (B, S, D)."""
        with torch.autocast(codes.device.type, enabled=False):
            x = codes * self.scale @ self.components.T + self.centre  # (B, S * D)
        return x.unflatten(-1, (self.num_tokens, self.width)) * self.std + self.mean


def fit_codec(image_embeds: torch.Tensor, num_components: int, seed: int) -> EmbeddingCodec:
    """The codec of some embeddings (N, S, D); at most N - 1 components, the most that N samples determine."""
    num_samples, num_tokens, width = image_embeds.shape
    num_components = min(num_components, num_samples - 1, num_tokens * width)
    codec = EmbeddingCodec(num_tokens, width, num_components)
    codec.mean.copy_(image_embeds.mean(dim=(0, 1)))
    codec.std.copy_(image_embeds.std(dim=(0, 1)).clamp(min=1e-6))
    x = ((image_embeds - codec.mean) / codec.std).flatten(1)  # (N, S * D)
    codec.centre.copy_(x.mean(dim=0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # pca_lowrank draws from the global generator
        _, singular, components = torch.pca_lowrank(x - codec.centre, q=num_components, center=False)
    codec.components.copy_(components)
    codec.scale.copy_(singular[0] / num_samples**0.5 / FIRST_STD)
    return codec
