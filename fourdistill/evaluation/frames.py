"""True frames by their key, at the size of a base's pictures."""

from pathlib import Path

from PIL import Image

from fourdistill.data.features import open_image
from fourdistill.data.tables import FRAMES, read_table
from fourdistill.errors import InputError
from fourdistill.evaluation.commands import FrameKey


def fit(image: Image.Image, size: int) -> Image.Image:
    """A picture as RGB of (size, size) pixels."""
    image = image.convert("RGB")
    return image if image.size == (size, size) else image.resize((size, size), Image.Resampling.LANCZOS)


class FrameReader:
    """Pictures of the frames table."""

    def __init__(self, frames_table: Path, frames_dir: Path, size: int):
        rows = read_table(frames_table, FRAMES, ["scene", "camera", "frame_index", "path"]).to_pylist()
        self._paths = {FrameKey(row["scene"], row["camera"], row["frame_index"]): row["path"] for row in rows}
        self._frames_table, self._frames_dir, self.size = frames_table, frames_dir, size

    def __call__(self, key: FrameKey) -> Image.Image:
        """One frame, RGB, (size, size); raises `InputError` where the table lacks it or the file cannot be read."""
        if key not in self._paths:
            raise InputError(
                f"{self._frames_table}: expected frame {key.frame} of {key.scene}/{key.camera}, found none"
            )
        return fit(open_image(self._frames_dir / self._paths[key]), self.size)

    def fit(self, image: Image.Image) -> Image.Image:
        """Any picture at the size of the frames."""
        return fit(image, self.size)
