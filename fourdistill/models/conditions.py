"""The conditions of a batch: image, displacement in time, displacement of the camera, and which are present."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace

import torch


@dataclass(frozen=True)
class Conditions:
    """The conditions of a batch; what is absent has a False in its `has_*` and is masked out.

    image_embeds (B, S, D), those of an all-zero image where there is none; delta_time (B,) in [-1, 1]; view (B, I),
    the output of `encode_view`; has_image, has_time, has_view (B,) bool. others: further images of the same B samples,
    each with its own displacement to the same target; they have no others of their own.
    """

    image_embeds: torch.Tensor
    has_image: torch.Tensor
    delta_time: torch.Tensor
    has_time: torch.Tensor
    view: torch.Tensor
    has_view: torch.Tensor
    others: tuple["Conditions", ...] = ()

    @property
    def per_image(self) -> tuple["Conditions", ...]:
        """The conditions of every image, this one's first."""
        return (replace(self, others=()), *self.others)

    def __getitem__(self, index: torch.Tensor | slice) -> "Conditions":
        """The same conditions for some of the samples."""
        return _merge([self], lambda tensors: tensors[0][index])

    def to(self, device: torch.device) -> "Conditions":
        """The same conditions on a device."""
        return _merge([self], lambda tensors: tensors[0].to(device))

    def masked(self, time: torch.Tensor, view: torch.Tensor) -> "Conditions":
        """The same with the displacements of every image left to those samples alone where (B,) bool is True."""
        others = tuple(other.masked(time, view) for other in self.others)
        return replace(self, has_time=self.has_time & time, has_view=self.has_view & view, others=others)

    @staticmethod
    def cat(parts: Iterable["Conditions"]) -> "Conditions":
        """Several batches, of equally many images a sample, as one."""
        return _merge(list(parts), torch.cat)

    def without_image(self, dropped: torch.Tensor, null_image: torch.Tensor) -> "Conditions":
        """The same without any image of the samples where `dropped` (B,) is True; `null_image` (1, S, D) is there."""
        embeds = torch.where(dropped[:, None, None], null_image, self.image_embeds)
        others = tuple(other.without_image(dropped, null_image) for other in self.others)
        return replace(self, image_embeds=embeds, has_image=self.has_image & ~dropped, others=others)


def _merge(parts: Sequence[Conditions], merge: Callable[[list[torch.Tensor]], torch.Tensor]) -> Conditions:
    """Conditions whose every tensor is what `merge` makes of that of all parts; others are merged by their place."""
    names = [f.name for f in fields(Conditions) if f.name != "others"]
    others = zip(*(part.others for part in parts), strict=True)
    return Conditions(
        **{name: merge([getattr(part, name) for part in parts]) for name in names},
        others=tuple(_merge(group, merge) for group in others),
    )
