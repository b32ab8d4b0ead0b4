"""Augmentations of whole scenes: the same change of all frames gives a new scene with known displacements.

A prior needs many people in the same poses to separate pose from clothing. Frames with permuted colour channels show a
person in other clothes, at an eighth of the cost of rendering them.
"""

from dataclasses import dataclass

from PIL import Image, ImageOps

RGB = "RGB"
ORDERS = ("GBR", "BRG", "RBG", "GRB")  # channel orders of recoloured frames


@dataclass(frozen=True)
class Augmentation:
    """A change of all frames: whether they are mirrored, and which channels replace red, green and blue."""

    mirror: bool
    channels: str = RGB

    @property
    def feature(self) -> str:
        """The name of the feature that holds its image embeddings."""
        if self == PLAIN:
            return "image_embeds"
        order = "" if self.channels == RGB else f"{self.channels.lower()}_"
        return f"{order}{'mirrored_' if self.mirror else ''}embeds"

    def __call__(self, image: Image.Image) -> Image.Image:
        """An RGB image => the augmented image."""
        if self.channels != RGB:
            image = Image.merge(RGB, [image.getchannel(name) for name in self.channels])
        return ImageOps.mirror(image) if self.mirror else image


PLAIN = Augmentation(mirror=False)


def augmentations(mirror: bool, recolour: bool) -> tuple[Augmentation, ...]:
    """The augmentations for training a prior: unchanged, mirrored, and four other channel orders.

    With `mirror`, half of the recoloured ones are mirrored too.
    """
    chosen = [PLAIN]
    if mirror:
        chosen.append(Augmentation(mirror=True))
    if recolour:
        chosen += [Augmentation(mirror and bool(number % 2), order) for number, order in enumerate(ORDERS)]
    return tuple(chosen)
