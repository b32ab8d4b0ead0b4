"""The conditions of a batch: an image, the displacement from it, and which of them are present."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch

from fourdistill.geometry.displacement import Displacement


@dataclass(frozen=True)
class Conditions:
    """The conditions of B samples; an absent condition is False in its `has_*` and is masked out.

    image_embeds (B, S, D), those of an all-zero image if absent; has_image (B,) bool; displacement (B,), from the image
    to the target. others: further images of the same samples, each with its own displacement to the same target; they
    have no others themselves.
    """

    image_embeds: torch.Tensor
    has_image: torch.Tensor
    displacement: Displacement[torch.Tensor]
    others: tuple["Conditions", ...] = ()

    @property
    def per_image(self) -> tuple["Conditions", ...]:
        """The conditions of every image, this one's first."""
        return (replace(self, others=()), *self.others)

    @property
    def moved(self) -> torch.Tensor:
        """Which samples have a displacement of the first image, in time or of the camera, (B,) bool."""
        return self.displacement.has_time | self.displacement.has_view

    def __getitem__(self, index: torch.Tensor | slice) -> "Conditions":
        """The same conditions for some of the samples."""
        return _merge([self], lambda tensors: tensors[0][index])

    def to(self, device: torch.device) -> "Conditions":
        """The same conditions on a device."""
        return _merge([self], lambda tensors: tensors[0].to(device))

    def masked(self, time: torch.Tensor, view: torch.Tensor) -> "Conditions":
        """The same with displacements of every image kept only where `time` and `view` (B,) bool are True."""
        others = tuple(other.masked(time, view) for other in self.others)
        return replace(self, displacement=self.displacement.masked(time, view), others=others)

    @staticmethod
    def cat(parts: Iterable["Conditions"]) -> "Conditions":
        """Concatenate batches that have the same number of images per sample."""
        return _merge(list(parts), torch.cat)

    def without_image(self, dropped: torch.Tensor, null_image: torch.Tensor) -> "Conditions":
        """The same with all images replaced by `null_image` (1, S, D) in samples where `dropped` (B,) is True."""
        embeds = torch.where(dropped[:, None, None], null_image, self.image_embeds)
        others = tuple(other.without_image(dropped, null_image) for other in self.others)
        return replace(self, image_embeds=embeds, has_image=self.has_image & ~dropped, others=others)


def _merge(parts: Sequence[Conditions], merge: Callable[[list[torch.Tensor]], torch.Tensor]) -> Conditions:
    """Merge the parts tensor by tensor with `merge`; `others` are merged by position."""
    others = zip(*(part.others for part in parts), strict=True)
    return Conditions(
        image_embeds=merge([part.image_embeds for part in parts]),
        has_image=merge([part.has_image for part in parts]),
        displacement=Displacement.merge([part.displacement for part in parts], merge),
        others=tuple(_merge(group, merge) for group in others),
    )
