"""What a scene becomes when all of its frames are changed alike: another scene, of which every displacement is known.

A prior tells pose from dress by many people in the same poses. Frames whose colour channels have changed places show
somebody in other clothes, for an eighth of what it costs to render them.
"""

from dataclasses import dataclass

from PIL import Image, ImageOps

RGB = "RGB"
ORDERS = ("GBR", "BRG", "RBG", "GRB")  # of the channels of recoloured frames


@dataclass(frozen=True)
class Augmentation:
    """A change of all frames: whether left and right are exchanged, and which channels stand for red, green, blue."""

    mirror: bool
    channels: str = RGB

    @property
    def feature(self) -> str:
        """The name of its image embeddings among a frame's features."""
        if self == PLAIN:
            return "image_embeds"
        order = "" if self.channels == RGB else f"{self.channels.lower()}_"
        return f"{order}{'mirrored_' if self.mirror else ''}embeds"

    def __call__(self, image: Image.Image) -> Image.Image:
        """An RGB image => the same, changed."""
        if self.channels != RGB:
            image = Image.merge(RGB, [image.getchannel(name) for name in self.channels])
        return ImageOps.mirror(image) if self.mirror else image


PLAIN = Augmentation(mirror=False)


def augmentations(mirror: bool, recolour: bool) -> tuple[Augmentation, ...]:
    """Those that a prior is trained on: frames as they are, mirrored, and in four other orders of their channels.

    Half of the recoloured ones are mirrored too, if any are.
    """
    chosen = [PLAIN]
    if mirror:
        chosen.append(Augmentation(mirror=True))
    if recolour:
        chosen += [Augmentation(mirror and bool(number % 2), order) for number, order in enumerate(ORDERS)]
    return tuple(chosen)
