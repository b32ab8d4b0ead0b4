"""Stage `frames`: decode the rendered scenes into one array of pictures and one table of captions.

Training reads single frames in random order, which videos do not allow; later stages memory-map the array.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
from tqdm import tqdm
from work import WORK, load_section


@dataclass(frozen=True)
class Frames:
    """The base's training data: `pixels` uint8 (N, H, W, 3); scene id and caption id of each frame; captions by id."""

    pixels: np.ndarray
    scene: np.ndarray  # (N,) int32
    caption: np.ndarray  # (N,) int32
    captions: list[str]
    is_val: np.ndarray  # (N,) bool: scenes never trained on

    @classmethod
    def load(cls, folder: Path = WORK / "frames") -> "Frames":
        """Open the stage's outputs; the pixels stay on disk."""
        pixels = np.load(folder / "pixels.npy", mmap_mode="r")
        table = json.loads((folder / "frames.json").read_text())
        scene, caption = np.array(table["scene"], np.int32), np.array(table["caption"], np.int32)
        return cls(pixels, scene, caption, table["captions"], np.isin(scene, table["val_scenes"]))

    def batch(self, indices: np.ndarray) -> torch.Tensor:
        """Pictures by index => pixel values in [-1, 1], (B, 3, H, W)."""
        pixels = torch.from_numpy(self.pixels[np.sort(indices)])
        return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


def decode(video: Path) -> np.ndarray:
    """All frames of a video as uint8 (N, H, W, 3)."""
    with av.open(str(video)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def main() -> None:
    """Decode every scene in the render folder."""
    num_val = load_section("split")["val_scenes"]
    scenes = sorted(path for path in (WORK / "raw").iterdir() if (path / "caption.txt").exists())
    captions = [(scene / "caption.txt").read_text().strip() for scene in scenes]
    known = sorted(set(captions))
    first = decode(scenes[0] / "cam00.mp4")
    cameras = len(list(scenes[0].glob("cam*.mp4")))
    per_scene = cameras * len(first)

    out = WORK / "frames"
    out.mkdir(parents=True, exist_ok=True)
    partial = out / "pixels.partial.npy"
    shape = (len(scenes) * per_scene, *first.shape[1:])
    pixels = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
    for number, scene in enumerate(tqdm(scenes, desc="decode")):
        frames = np.concatenate([decode(video) for video in sorted(scene.glob("cam*.mp4"))])
        pixels[number * per_scene : (number + 1) * per_scene] = frames
    pixels.flush()
    partial.replace(out / "pixels.npy")
    table = {
        "scene": np.repeat(np.arange(len(scenes)), per_scene).tolist(),
        "caption": np.repeat([known.index(caption) for caption in captions], per_scene).tolist(),
        "captions": known,
        "val_scenes": list(range(len(scenes) - num_val, len(scenes))),
    }
    (out / "frames.json").write_text(json.dumps(table))


if __name__ == "__main__":
    main()
