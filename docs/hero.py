"""The README's first picture: one frame of a scene that was never trained on, moved in time, about it, and re-dressed.

    python docs/hero.py scene085_walk --frame 4  # after `make repro`; writes docs/images/hero.gif

Every column but the first shows what the shipped adapter draws, and below it the true frame. Of other clothes there is
no truth.
"""

from pathlib import Path
from textwrap import fill
from typing import Annotated

import numpy as np
import typer
from PIL import Image, ImageDraw, ImageFont

from fourdistill import FourDistillPipeline
from fourdistill.animation import save_gif
from fourdistill.geometry.scene_frame import fit_scene_frame, spherical
from fourdistill.tables import FRAMES, read_table

SIZE, TOP, GAP = 160, 22, 6  # pixels
PROMPT = "a man in a red top and white trousers"


def main(
    scene: str,
    camera: str = "cam00",
    frame: int = 12,
    prompt: str = PROMPT,
    frames_table: Path = Path("data/frames.parquet"),
    frames: Path = Path("data/frames"),
    base: str = "data/base/mini",
    adapter: str = "models/mini-adapter",
    out: Path = Path("docs/images/hero.gif"),
    frame_rate: Annotated[float, typer.Option(help="Of the animation.")] = 8,
) -> None:
    """Draw the animation."""
    table = read_table(frames_table, FRAMES)
    rows = [row for row in table.to_pylist() if row["scene"] == scene]
    paths = {(row["camera"], row["frame_index"]): frames / row["path"] for row in rows}
    cameras = sorted({name for name, _ in paths})
    poses = {row["camera"]: np.reshape(row["c2w"], (4, 4)) for row in rows}
    fitted = fit_scene_frame(np.stack([poses[name] for name in cameras]))
    assert fitted is not None
    angles = {name: np.degrees(spherical(fitted, poses[name])) for name in cameras}
    orbit = sorted(cameras, key=lambda name: (angles[name][0] - angles[camera][0]) % 360)
    instants = sorted(index for name, index in paths if name == camera)
    time = {row["frame_index"]: row["time"] for row in rows if row["camera"] == camera}

    pipe = FourDistillPipeline.from_pretrained(base, adapter=adapter)
    source = Image.open(paths[camera, frame]).convert("RGB")
    times = [time[index] - time[frame] for index in instants]
    turns = [(angles[name][0] - angles[camera][0] + 180) % 360 - 180 for name in orbit]
    tilts = [angles[name][1] - angles[camera][1] for name in orbit]
    over_time = pipe.sweep(source, times=times, seed=0)[0]
    about = [row[0] for row in pipe.sweep(source, azimuths=turns, elevations=tilts, seed=0)]
    dressed = pipe.sweep(source, times=times, seed=0, prompt=prompt, prompt_strength=1.0)[0]
    truth = [Image.open(paths[camera, index]) for index in instants]
    turned = [Image.open(paths[name, frame]) for name in orbit]
    stay = max(1, len(instants) // len(orbit))  # as long as the sweep over time
    steps = [
        [(source, None), (over_time[i], truth[i]), (about[j], turned[j]), (dressed[i], None)]
        for i in range(len(instants))
        for j in [min(i // stay, len(orbit) - 1)]
    ]
    titles = ["one picture in", "another instant", "another camera", "another prompt"]
    with out.open("wb") as file:
        save_gif(file, [compose(step, titles, prompt) for step in steps], frame_rate)


def compose(step: list[tuple[Image.Image, Image.Image | None]], titles: list[str], prompt: str) -> Image.Image:
    """(drawn, true or None) of each column => one picture with headings; below, the truth and the prompt."""
    canvas = Image.new("RGB", (len(step) * (SIZE + GAP) + GAP, 2 * (SIZE + TOP) + GAP), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    for column, ((drawn, true), title) in enumerate(zip(step, titles, strict=True)):
        left = GAP + column * (SIZE + GAP)
        draw.text((left, 4), title, "black", font)
        canvas.paste(drawn.resize((SIZE, SIZE)), (left, TOP))
        if true is not None:
            draw.text((left, TOP + SIZE + 4), "the truth", "black", font)
            canvas.paste(true.resize((SIZE, SIZE)), (left, 2 * TOP + SIZE))
    draw.text((left, TOP + SIZE + 4), fill(f"“{prompt}”", 22), "black", font)  # where the last column has no truth
    return canvas


if __name__ == "__main__":
    typer.run(main)
