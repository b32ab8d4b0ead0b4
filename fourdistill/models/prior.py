"""The displacement prior: image embeddings of frame j, displacement => image embeddings of frame i.

A base generates frame i if its image prompt is given frame i, so the prior predicts the embeddings of frame i. An
encoder maps the codes of frame j (`models.codec`) to points in the plane. A displacement rotates each point about the
origin, by an angle linear in the displacement, with a frequency per point. A decoder maps the rotated points to
the codes of frame i. So even before training, displacements add up, a zero displacement rotates nothing, and a full
turn of the camera returns to its start (Worrall et al., arXiv 1710.07307; for positions in sequences: Su et al., arXiv
2104.09864).

A prior that knows the codes of mirror images (`models.mirror`) predicts from both sides of the mirror.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from pydantic.dataclasses import dataclass
from torch import nn

from fourdistill.config import STRICT, PositiveInt, describe_fault
from fourdistill.errors import InputError
from fourdistill.models.codec import FIRST_STD, EmbeddingCodec
from fourdistill.models.conditions import Conditions
from fourdistill.models.folder import CONFIG_NAME, load_weights, save_model
from fourdistill.models.mirror import CodeMirror, mirrored_conditions
from fourdistill.models.settings import PriorNetwork, ViewEncoding
from fourdistill.models.view_encoding import NUM_ANGLES, displacement_angles

WEIGHTS_NAME = "prior.safetensors"
ADAPTER_WEIGHTS_NAME, ADAPTER_PREFIX = "adapter.safetensors", "prior."  # where an adapter stores its prior
FORMAT_VERSION = 2  # of a prior's folder; version 1 has no such entry, and its times had the opposite sign
OLD_ADAPTER = 3  # the last `format_version` of an adapter with the opposite sign
UNMOVED = 8  # one point in this many is invariant to time and azimuth: it encodes the subject's identity


@dataclass(frozen=True, config=STRICT)
class PriorConfig(PriorNetwork):
    """The configuration of a prior: its network, and what its embeddings and displacements are."""

    num_tokens: PositiveInt  # S of the image embeddings
    embeds_width: PositiveInt  # D of the image embeddings
    num_components: PositiveInt  # K of the codes
    view_encoding: ViewEncoding  # for `displacement_angles`
    mirror: bool = False  # whether it knows the codes of mirror images


class DisplacementPrior(nn.Module):
    """Codes of frame j, displacement => codes of frame i."""

    frequencies: torch.Tensor

    def __init__(self, config: PriorConfig, generator: torch.Generator | None = None):
        super().__init__()
        self.config = config
        self.codec = EmbeddingCodec(config.num_tokens, config.embeds_width, config.num_components)
        self.register_buffer("frequencies", draw_frequencies(config, generator))
        num_coordinates = 2 * config.num_rotations
        self.mirror = CodeMirror(config.num_components) if config.mirror else None
        self.encoder = residual_mlp(config.num_components, config.width, config.depth, num_coordinates)
        self.decoder = residual_mlp(num_coordinates, config.width, config.depth, config.num_components)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_uniform_(module.weight, a=5**0.5, generator=generator)
                nn.init.zeros_(module.bias)

    def forward(self, codes: Sequence[torch.Tensor], conditions: Conditions) -> torch.Tensor:
        """Codes (B, K) of each image, their displacements to one target => codes (B, K) of the target, as trained.

        Every image's points are rotated by its own displacement to the same target; the decoder reads their mean.
        """
        turned = [self.turn(*pair) for pair in zip(codes, conditions.per_image, strict=True)]
        return FIRST_STD * self.decoder(torch.stack(turned).mean(dim=0)).to(codes[0].dtype)

    def turn(self, codes: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        """Codes (B, K) of one image, its displacement => rotated points (B, 2 * num_rotations)."""
        x, y = self.encoder(codes).to(codes.dtype).chunk(2, dim=-1)  # (B, num_rotations) each
        angles = displacement_angles(conditions.displacement, self.config.view_encoding) @ self.frequencies
        cos, sin = angles.cos(), angles.sin()
        return torch.cat([x * cos - y * sin, x * sin + y * cos], dim=-1)

    def set_mirror(self, mirror: CodeMirror | None) -> None:
        """Predict from both sides of a mirror from now on, or from one side alone."""
        self.mirror, self.config = mirror, replace(self.config, mirror=mirror is not None)

    def predict(self, codes: Sequence[torch.Tensor], conditions: Conditions) -> torch.Tensor:
        """As `forward`, but the mean of both sides of the mirror if the prior knows mirror images."""
        predicted = self(codes, conditions)
        if self.mirror is None:
            return predicted
        behind = self([self.mirror(each) for each in codes], mirrored_conditions(conditions))
        return (predicted + self.mirror(behind)) / 2

    @torch.no_grad()
    def displace(self, conditions: Conditions) -> torch.Tensor:
        """Conditions => the image embeddings (B, S, D) after their displacements."""
        codes = [self.codec.encode(image.image_embeds) for image in conditions.per_image]
        return self.codec.decode(self.predict(codes, conditions))

    def save(self, folder: Path, training: dict[str, Any] | None = None) -> None:
        """Write `config.json` and `prior.safetensors`."""
        config = {"config": asdict(self.config), "training": training or {}, "format_version": FORMAT_VERSION}
        save_model(folder, self, WEIGHTS_NAME, config)

    def reverse_time(self) -> None:
        """Flip the sign of time in weights from before the displacement was target minus source."""
        self.frequencies[0].neg_()

    @classmethod
    def load(cls, folder: Path) -> "DisplacementPrior":
        """Load a folder written by `save`, or the prior of an adapter's folder; raises `InputError` naming the file."""
        path, inside = folder / CONFIG_NAME, (folder / ADAPTER_WEIGHTS_NAME).exists()
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
            prior = cls(PriorConfig(**config["prior" if inside else "config"]))
            has_old_time = config.get("format_version", 1) <= (OLD_ADAPTER if inside else 1)
        except ValidationError as error:
            expected = "expected the configuration of a displacement prior"
            raise InputError(f"{path}: {expected}: {describe_fault(error)}") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: expected the configuration of a displacement prior: {error}") from error
        if inside:
            load_weights(prior, folder / ADAPTER_WEIGHTS_NAME, prefix=ADAPTER_PREFIX)
        else:
            load_weights(prior, folder / WEIGHTS_NAME)
        if has_old_time:
            prior.reverse_time()
        return prior.eval()


def draw_frequencies(config: PriorConfig, generator: torch.Generator | None) -> torch.Tensor:
    """Frequencies (1 + NUM_ANGLES, num_rotations) in radians per unit."""
    num_angles, num_rotations = NUM_ANGLES[config.view_encoding], config.num_rotations
    frequencies = torch.randn(1 + num_angles, num_rotations, generator=generator)
    frequencies[0] *= config.sigma_time
    frequencies[1:] *= config.sigma_view
    if config.view_encoding == "spherical":
        highest = config.max_azimuth_frequency
        frequencies[1] = torch.randint(-highest, highest + 1, (num_rotations,), generator=generator)
    # Elevation and radius still rotate them; every entry of a relative pose depends on the azimuth.
    held = slice(0, 2) if config.view_encoding == "spherical" else slice(None)
    frequencies[held, : num_rotations // UNMOVED] = 0
    return frequencies


def residual_mlp(inputs: int, width: int, depth: int, outputs: int) -> nn.Sequential:
    """(B, inputs) => (B, outputs) by a linear map, `depth` residual blocks, and a linear map."""
    return nn.Sequential(
        nn.Linear(inputs, width),
        *(ResidualBlock(width) for _ in range(depth)),
        nn.LayerNorm(width),
        nn.Linear(width, outputs),
    )


class ResidualBlock(nn.Module):
    """hidden (B, width) => hidden plus the output of two layers."""

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden (B, width) => (B, width)."""
        return hidden + self.layers(hidden)
