"""Write one scene: person, outfit, clip and cameras, all drawn from one seed => a folder in the DyNeRF layout."""

import shutil
import subprocess
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from body import Shape, build_body
from cameras import Camera, jittered_cameras, poses_bounds, ring_cameras
from captions import describe
from clips import load_clip
from clothes import draw_outfit, garment_fields, paint, thickness
from motion import Clip, mirror_clip, sample_clip
from raycast import Mesh, Surroundings, View
from settings import Settings
from skinning import Rigging, pose_body, rig_body, vertex_normals

FIT_FRAMES, FIT_STRIDE = 12, 16  # frames, and vertex stride, that the cameras are fitted to


@dataclass(frozen=True)
class Film:
    """What C cameras see: `pictures` (C, N, H, W, 3) uint8 at `ticks` (N,) of a clock of `rate` Hz."""

    pictures: np.ndarray
    ticks: np.ndarray
    rate: Fraction


def scene_name(index: int, clip: str) -> str:
    """Folder name of a scene; names sort by index."""
    return f"scene{index:03d}_{clip.replace('+', '_and_')}"


def draw_shape(generator: np.random.Generator) -> Shape:
    """A person's build; one in seven is old."""
    sex = str(generator.choice(["female", "male"]))
    height = generator.normal(1.64 if sex == "female" else 1.77, 0.06)
    shares = generator.dirichlet([0.6, 0.6, 0.6])
    return Shape(
        sex=sex,
        age=str(generator.choice(["young", "old"], p=[0.86, 0.14])),
        muscle=float(generator.uniform(0.3, 0.9)),
        weight=float(generator.uniform(0.25, 0.9)),
        height=float(np.clip(height, 1.48, 1.95)),
        ancestry=(float(shares[0]), float(shares[1]), float(shares[2])),
    )


def draw_surroundings(generator: np.random.Generator) -> Surroundings:
    """A pale, slightly tinted background, and a sun from any direction that is not low."""
    background = float(generator.uniform(0.74, 0.86)) * generator.uniform(0.97, 1.03, 3)
    angle, height = generator.uniform(0, 2 * np.pi), generator.uniform(0.9, 1.6)
    sun = np.array([np.cos(angle), height, np.sin(angle)])
    return Surroundings(background, sun / np.linalg.norm(sun))


def write_scene(out: Path, index: int, clip_name: str, settings: Settings, wheels: Path) -> None:
    """Render scene `index` into `out/<scene>`, atomically; an existing scene is kept."""
    target = out / scene_name(index, clip_name)
    if target.exists():
        return
    # 1. Person, outfit and motion
    generator = np.random.default_rng([settings.seed, index])
    shape = draw_shape(generator)
    outfit = draw_outfit(shape.sex, shape.age, generator)
    body = build_body(wheels, shape)
    fields = garment_fields(body)
    dressed = Rigging(replace(body, vertices=thickness(body, fields, outfit)), rig_body(body).alignment)
    clip = load_clip(wheels, clip_name)
    if generator.random() < 0.5:
        clip = mirror_clip(clip)

    # 2. Frame times: on a clock of even instants over the clip, so that the video's times are the true ones
    phase = generator.random() if settings.layout == "jittered" else 0.0
    instants = settings.instants or settings.frames
    ticks = draw_ticks(settings.frames, instants, generator)
    seconds = clip.duration * (ticks + phase) / instants
    rate = Fraction(instants / clip.duration).limit_denominator(1000)

    # 3. Cameras
    surroundings = draw_surroundings(generator)
    fit_times = np.linspace(0, clip.duration, FIT_FRAMES)
    swept = np.concatenate([posed(dressed, clip, time)[::FIT_STRIDE] for time in fit_times])
    if settings.layout == "ring":
        cameras = ring_cameras(settings.cameras, settings.resolution, swept, shape.height)
    else:
        cameras = jittered_cameras(settings.cameras, settings.resolution, swept, shape.height, generator)

    # 4. Pictures: one mesh per instant, rendered for all cameras
    views = [View(camera, surroundings) for camera in cameras]
    pictures = np.empty((len(views), settings.frames, settings.resolution, settings.resolution, 3), np.uint8)
    for frame, time in enumerate(seconds):
        vertices = posed(dressed, clip, time)
        normals = vertex_normals(vertices, body.faces)
        mesh = Mesh(vertices, normals, body.faces, fields, partial(paint, outfit=outfit))
        for number, view in enumerate(views):
            pictures[number, frame] = view.render(mesh)
    film = Film(pictures, ticks, rate)
    save_scene(target, film, cameras, swept, describe(shape, outfit, clip_name), settings.crf)


def draw_ticks(frames: int, instants: int, generator: np.random.Generator) -> np.ndarray:
    """Which instants the frames show, (frames,) ascending: always the first and the last, which set the clock."""
    if frames == instants:
        return np.arange(frames)
    between = generator.choice(np.arange(1, instants - 1), frames - 2, replace=False)
    return np.concatenate([[0], np.sort(between), [instants - 1]])


def posed(rigging: Rigging, clip: Clip, seconds: float) -> np.ndarray:
    """Vertices (V, 3) at an instant of the clip, with the hips kept above the origin as on a treadmill."""
    position, rotations = sample_clip(clip, seconds)
    return pose_body(rigging, position * [0, 1, 0], rotations)


def save_scene(target: Path, film: Film, cameras: list[Camera], swept: np.ndarray, caption: str, crf: int) -> None:
    """Write videos, poses and caption to a temporary folder, then rename it to `target`."""
    partial_folder = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial_folder, ignore_errors=True)
    partial_folder.mkdir(parents=True)
    for number, frames in enumerate(film.pictures):
        encode_video(partial_folder / f"cam{number:02d}.mp4", frames, film.ticks, film.rate, crf)
    np.save(partial_folder / "poses_bounds.npy", poses_bounds(cameras, swept))
    (partial_folder / "caption.txt").write_text(caption + "\n")
    partial_folder.replace(target)


def encode_video(path: Path, frames: np.ndarray, ticks: np.ndarray, rate: Fraction, crf: int) -> None:
    """Frames (N, H, W, 3) uint8 at ticks (N,) of a clock with `rate` Hz => H.264, byte-reproducible."""
    height, width = frames.shape[1:3]
    even = np.array_equal(ticks, np.arange(len(ticks)))
    expression = "+".join(f"eq(N,{number})*{tick}" for number, tick in enumerate(ticks))
    retime = [] if even else ["-vf", f"setpts='{expression}'", "-fps_mode", "passthrough"]
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y",
        "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(rate), "-i", "-",
        *retime,
        "-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact",
        "-c:v", "libx264", "-crf", str(crf), "-preset", "slow", "-pix_fmt", "yuv420p", "-threads", "1",
        "-movflags", "+faststart", str(path),
    ]  # fmt: skip
    subprocess.run(command, input=frames.tobytes(), check=True)
