"""The conditions of a batch: image, displacement in time, displacement of the camera, and which are present."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

import torch


@dataclass(frozen=True)
class Conditions:
    """The conditions of a batch; what is absent has a False in its `has_*` and is masked out.

    image_embeds (B, S, D), those of an all-zero image where it is dropped; delta_time (B,) in [-1, 1]; view (B, I),
    the output of `encode_view`; has_time, has_view (B,) bool.
    """

    image_embeds: torch.Tensor
    delta_time: torch.Tensor
    has_time: torch.Tensor
    view: torch.Tensor
    has_view: torch.Tensor

    def __getitem__(self, index: torch.Tensor | slice) -> "Conditions":
        """The same conditions for some of the samples."""
        return Conditions(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def to(self, device: torch.device) -> "Conditions":
        """The same conditions on a device."""
        return Conditions(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    @staticmethod
    def cat(parts: Iterable["Conditions"]) -> "Conditions":
        """Several batches as one."""
        parts = list(parts)
        return Conditions(**{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Conditions)})

    def dropped(self, null_image: torch.Tensor) -> "Conditions":
        """The same batch without any condition, for guidance; `null_image` (1, S, D) stands for no image."""
        absent = torch.zeros_like(self.has_time)
        return replace(self, image_embeds=null_image.expand_as(self.image_embeds), has_time=absent, has_view=absent)
