"""True frames by key, at the image size of a base."""

from pathlib import Path

from PIL import Image

from fourdistill.errors import InputError
from fourdistill.evaluation.protocol.command import FrameKey
from fourdistill.features.images import read_frame
from fourdistill.storage.store import open_set
from fourdistill.tables import FRAMES, read_table


def fit(image: Image.Image, size: int) -> Image.Image:
    """An image as RGB of (size, size) pixels."""
    image = image.convert("RGB")
    return image if image.size == (size, size) else image.resize((size, size), Image.Resampling.LANCZOS)


class FrameReader:
    """Reads images of the frames table from a folder or an address."""

    def __init__(self, frames_table: Path, frames_dir: Path | str, size: int):
        rows = read_table(frames_table, FRAMES, ["scene", "camera", "frame_index", "path"]).to_pylist()
        self._paths = {FrameKey(row["scene"], row["camera"], row["frame_index"]): row["path"] for row in rows}
        self._frames_table, self._frames, self.size = frames_table, open_set(frames_dir, "extract_frames"), size

    def __call__(self, key: FrameKey) -> Image.Image:
        """One frame, RGB, (size, size); raises `InputError` if the table lacks it or the file cannot be read."""
        if key not in self._paths:
            raise InputError(
                f"{self._frames_table}: expected frame {key.frame} of {key.scene}/{key.camera}, found none"
            )
        return fit(read_frame(self._frames, self._paths[key]), self.size)

    def fit(self, image: Image.Image) -> Image.Image:
        """Any image at the size of the frames."""
        return fit(image, self.size)
