"""Figure of raw data: the camera positions of each scene, and a contact sheet of their frames."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from fourdistill.errors import InputError
from fourdistill.geometry.poses import distinct_poses
from fourdistill.geometry.scene_frame import fit_scene_frame
from fourdistill.scene import Pictures, Scene
from fourdistill.sources.inspect.facts import known_cameras
from fourdistill.storage.files import new_file
from fourdistill.video.decode import read_frames
from fourdistill.video.film_filters import Cut
from fourdistill.video.films import ProbedFilm, probe_film
from fourdistill.video.kept_frames import keep_frames
from fourdistill.video.pictures import read_upright
from fourdistill.video.probe import VideoError
from fourdistill.video.timeline import Kept

MAX_SCENES, MAX_CAMERAS, NUM_INSTANTS = 6, 6, 5
HEIGHT = 96  # of a picture, in pixels


def draw_scenes(scenes: list[Scene], path: Path) -> None:
    """Write a figure of the first scenes: cameras from above on the left, frames of each camera on the right.

    Films that cannot be read are left out. Raises `InputError` if the file extension is no picture format.
    """
    shown = scenes[:MAX_SCENES]
    figure = Figure(figsize=(11, 4.2 * len(shown)), layout="constrained")
    form, formats = path.suffix.lower().removeprefix("."), figure.canvas.get_supported_filetypes()
    if form not in formats:
        raise InputError(f"{path}: expected a name that ends in one of {', '.join(f'.{f}' for f in sorted(formats))}")
    axes = figure.subplots(len(shown), 2, squeeze=False, width_ratios=(1, 2))
    for (left, right), scene in zip(axes, shown, strict=True):
        films = [film for film in map(probe_film, [(scene.name, video) for video in scene.videos])
                 if isinstance(film, ProbedFilm)]  # fmt: skip
        _draw_cameras(left, films)
        _draw_frames(right, scene, films[:MAX_CAMERAS])
        left.set_title(f"{scene.name}: {len(scene.videos)} cameras", loc="left")
    with new_file(path) as partial:
        figure.savefig(partial, format=form, dpi=100)


def _draw_cameras(axes: Axes, films: list[ProbedFilm]) -> None:
    """Plot camera centres and viewing directions from above the scene (up is the mean of the cameras' up axes)."""
    poses = {}
    for film in films:
        known = [camera.c2w for camera in known_cameras(film.film, film) if camera is not None]
        if known:
            poses[film.film.camera_id] = distinct_poses(np.stack(known))
    axes.set_axis_off()
    if not poses:
        axes.text(0.5, 0.5, "no poses", ha="center", transform=axes.transAxes)
        return
    everything = np.concatenate(list(poses.values()))
    frame = fit_scene_frame(everything)
    plane = frame.axes[:2] if frame else np.eye(3)[:2]
    center = frame.center if frame else everything[:, :3, 3].mean(0)
    reach = (frame.scale if frame else 1.0) / 4
    for name, c2w in poses.items():
        x, y = plane @ (c2w[:, :3, 3] - center).T
        u, v = plane @ c2w[:, :3, 2].T * reach
        points = axes.scatter(x, y, s=12, label=name)
        axes.quiver(x, y, u, v, angles="xy", scale_units="xy", scale=1, width=0.004, color=points.get_facecolor())
    axes.plot(0, 0, "+", color="black")
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.2)
    if len(poses) <= 12:
        axes.legend(loc="lower right", fontsize="x-small")


def _draw_frames(axes: Axes, scene: Scene, films: list[ProbedFilm]) -> None:
    """Draw a row of frames for each camera, at the same instants of the scene; missing frames are white."""
    rows = []
    tasks, _ = keep_frames([scene], films, None)
    for film, kept, columns in place_frames(tasks):
        try:
            images = zip(columns, _frames(film, kept), strict=True)
            rows.append((film.film.camera_id, {column: image for column, image in images if image}))
        except VideoError:
            continue  # `inspect_folder` reports it
    axes.set_axis_off()
    if not rows:
        axes.text(0.5, 0.5, "no frames", ha="center", transform=axes.transAxes)
        return
    width = max(image.width for _, images in rows for image in images.values())
    sheet = Image.new("RGB", (width * NUM_INSTANTS, HEIGHT * len(rows)), "white")
    for row, (_, images) in enumerate(rows):
        for column, image in images.items():
            sheet.paste(image, (column * width, row * HEIGHT))
    axes.imshow(np.asarray(sheet))
    for row, (name, _) in enumerate(rows):
        axes.text(-4, (row + 0.5) * HEIGHT, name, fontsize="x-small", ha="right", va="center")


def place_frames(tasks: list[tuple[ProbedFilm, Kept]]) -> Iterator[tuple[ProbedFilm, NDArray[np.int64], list[int]]]:
    """For each film, the frames nearest to `NUM_INSTANTS` instants of the scene, and their columns."""
    tasks = [(film, kept) for film, kept in tasks if len(kept.frames)]
    if not tasks:
        return
    first, last = min(kept.instants[0] for _, kept in tasks), max(kept.instants[-1] for _, kept in tasks)
    wanted = np.unique(np.linspace(first, last, NUM_INSTANTS).round())
    reach = max(last - first, 1) / (NUM_INSTANTS - 1) / 2
    for film, kept in tasks:
        distances = np.abs(kept.instants[None] - wanted[:, None])  # (columns, N)
        columns = np.flatnonzero(distances.min(axis=1) <= reach)
        yield film, kept.frames[distances.argmin(axis=1)[columns]], columns.tolist()


def _frames(probed: ProbedFilm, chosen: NDArray[np.int64]) -> list[Image.Image | None]:
    """The chosen frames of a film, `HEIGHT` pixels high; None if a frame has no picture."""
    film = probed.film
    if isinstance(film, Pictures):
        images = [read_upright(film.pictures[index], film.background)[0] for index in chosen]
        return [image.resize((max(1, round(image.width * HEIGHT / image.height)), HEIGHT)) for image in images]
    info = probed.info
    assert info is not None
    size = (max(2, round(info.width * HEIGHT / info.height)), HEIGHT)
    cut = Cut((0, 0, info.width, info.height), size)
    found = dict(read_frames(film, info, chosen, cut, threads=0))
    return [Image.fromarray(found[number]) if number in found else None for number in chosen.tolist()]
