"""`fourdistill generate`: pictures at other instants, from other cameras."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from fourdistill.commands.ranges import parse_values
from fourdistill.errors import InputError
from fourdistill.geometry.displacement import Displacement
from fourdistill.shipped import default_adapter, default_base

if TYPE_CHECKING:
    from fourdistill.inference.pipeline import FourDistillPipeline

EXAMPLES = """Examples:

`fourdistill generate --image examples/backflip.png --time 0.25 --azimuth 45 --out later.png`

`fourdistill generate --image examples/backflip.png --time -0.5:0.5:9 --out sweep.gif`

`fourdistill generate --image examples/backflip.png --azimuth 0:315:8 --out orbit.mp4`

`fourdistill generate --image examples/backflip.png --time -0.4:0.4:5 --azimuth -45,0,45 --out grid.png`

`fourdistill generate --image examples/backflip.png --prompt "a man in a red top" --time 0.2 --azimuth 45 --out red.png`
"""
RANGE = "a number, a list a,b,c, or a range from:to:count"
Text = str | None
Number = float | None
Matrix = list[list[float]]


def run(
    image: Annotated[Path, typer.Option(readable=False, help="The picture to start from.")],
    out: Annotated[
        Path, typer.Option(readable=False, help="PNG (several pictures: a grid, a row for each camera), GIF or MP4.")
    ],
    time: Annotated[Text, typer.Option(help=f"As a share of the scene, positive is later: {RANGE}.")] = None,
    seconds: Annotated[Text, typer.Option(help=f"The same in seconds, with --duration-s: {RANGE}.")] = None,
    duration_s: Annotated[float | None, typer.Option(help="How many seconds the scene lasts.")] = None,
    azimuth: Annotated[Text, typer.Option(help=f"Degrees, counter-clockwise from above: {RANGE}.")] = None,
    elevation: Annotated[Text, typer.Option(help=f"Degrees upwards: {RANGE}.")] = None,
    radius: Annotated[Text, typer.Option(help=f"Factor of the camera's distance, 1 keeps it: {RANGE}.")] = None,
    relative_pose: Annotated[
        Path | None,
        typer.Option(
            readable=False, help="File of one or several 3x4 or 4x4 source_from_target, instead of these three."
        ),
    ] = None,
    pairwise: Annotated[
        bool, typer.Option("--pairwise", help="Take the k-th time with the k-th camera, not each with each.")
    ] = False,
    prompt: Annotated[Text, typer.Option(help="Text beside the picture, such as other clothes.")] = None,
    prompt_strength: Annotated[float, typer.Option(help="0, as in the picture, to 1, as in the prompt.")] = 1.0,
    negative_prompt: Annotated[Text, typer.Option(help="What guidance leads away from.")] = None,
    adapter: Annotated[Text, typer.Option(help="Folder or Hub name; models/mini-adapter by default.")] = None,
    base: Annotated[Text, typer.Option(help="Folder or Hub id; data/base/mini by default.")] = None,
    image_encoder: Annotated[Text, typer.Option(help="CLIP vision tower, for a base without one.")] = None,
    device: Annotated[Text, typer.Option(help="cpu, cuda, cuda:1, ...; the first GPU by default, or cpu.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the noise, which all pictures share.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Diffusion steps.")] = 30,
    lambda_: Annotated[
        float | None, typer.Option("--lambda", help="λ of equation (1); by default --prompt-strength sets it.")
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(help="Guidance by all conditions; by default the adapter's own. 1 is none, as below."),
    ] = None,
    text_guidance: Annotated[
        float | None, typer.Option(help="Guidance by the prompt; by default --prompt-strength sets it.")
    ] = None,
    image_guidance: Annotated[float, typer.Option(help="Guidance by the image.")] = 1.0,
    time_guidance: Annotated[float, typer.Option(help="Guidance by the displacement in time.")] = 1.0,
    view_guidance: Annotated[float, typer.Option(help="Guidance by the displacement of the camera.")] = 1.0,
    guidance_rescale: Annotated[float, typer.Option(help="0 to 1, against oversaturation.")] = 0.0,
    noise_scale: Annotated[
        float | None, typer.Option(help="0 to 1, less is more accurate; by default the adapter's own.")
    ] = None,
    scheduler: Annotated[Text, typer.Option(help="Sampler by name, such as ddim or euler-discrete.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures sampled at a time.")] = 8,
    fps: Annotated[float, typer.Option(help="Frames a second of GIF (up to 50) and MP4 (up to 100).")] = 8.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print what each picture shows as JSON.")] = False,
) -> None:
    """Generate what a picture shows at other instants, from other cameras, or both.

    Times and cameras are combined: an animation runs through all times for the first camera, then for the next.
    """
    # 1. Check the options, before anything that takes long
    values = {"time": time, "seconds": seconds, "azimuth": azimuth, "elevation": elevation, "radius": radius}
    given = {name: parse_values(f"--{name}", text) for name, text in values.items()}
    cells, num_columns = lay_out(given, duration_s, read_poses(relative_pose), pairwise=pairwise)
    base, adapter = default_base(base), default_adapter(adapter)

    from fourdistill.media import check_output, read_picture, write_pictures

    check_output(out, fps)
    # 2. Read the picture
    picture = read_picture(image)
    # 3. Load the models
    pipe = load_pipeline(base, adapter, scheduler, image_encoder, device)
    # 4. Draw
    with counting_steps() as count:
        images = pipe(
            picture, prompt, **cells, duration_s=duration_s, negative_prompt=negative_prompt,
            prompt_strength=prompt_strength, lambda_=lambda_, guidance_scale=guidance, text_guidance=text_guidance,
            image_guidance=image_guidance, time_guidance=time_guidance, view_guidance=view_guidance,
            guidance_rescale=guidance_rescale, noise_scale=noise_scale, num_inference_steps=steps, seed=seed,
            batch_size=batch_size, callback_on_step_end=count,
        ).images  # fmt: skip
    # 5. Write the pictures, and say what they show
    images = [*images]
    rows = [images[start : start + num_columns] for start in range(0, len(images), num_columns)]
    write_pictures(out, rows, fps)
    if as_json:
        shown = [dict(zip(cells, values, strict=True)) for values in zip(*cells.values(), strict=True)]
        facts = {"out": str(out), "seed": seed, "columns": num_columns, "rows": len(rows), "pictures": shown}
        typer.echo(json.dumps(facts, indent=2))
        return
    typer.echo(f"{out}: {len(images)} pictures" if len(images) > 1 else f"{out}")


def load_pipeline(base: str, adapter: str, scheduler: Text, image_encoder: Text, device: Text) -> "FourDistillPipeline":
    """The pipeline on its device; raises `InputError` where a part cannot be found or does not fit the others."""
    from fourdistill.inference.pipeline import FourDistillPipeline  # takes seconds
    from fourdistill.models.base.precision import find_device

    on = find_device(device)
    pipe = FourDistillPipeline.from_pretrained(base, adapter, scheduler=scheduler, image_encoder=image_encoder)
    pipe.to(on).set_progress_bar_config(disable=True)
    return pipe


@contextmanager
def counting_steps() -> Iterator[Callable[..., dict[str, Any]]]:
    """A callback for the end of steps that shows on the terminal how many are done."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("drawing", total=None)

        def count(pipe: "FourDistillPipeline", step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            progress.update(task, total=pipe.num_timesteps, completed=step + 1)
            return tensors

        yield count


def read_poses(path: Path | None) -> list[Matrix] | None:
    """The relative poses of a file, where one is named; raises `InputError` where it holds anything else."""
    if path is None:
        return None
    from fourdistill.commands.relative_poses import read_relative_poses  # pydantic

    return read_relative_poses(path)


def lay_out(
    given: dict[str, list[float] | None], duration_s: float | None, poses: list[Matrix] | None, *, pairwise: bool
) -> tuple[dict[str, Any], int]:
    """Values by option => the pipeline's arguments of all pictures, row by row, and how many make a row.

    Values are checked here, before models are loaded; raises `InputError` naming the option.
    """
    instants, columns = lay_out_times(given, duration_s)
    views = lay_out_views(given, poses)
    num_views = len(next(iter(views.values())))
    if not pairwise:
        cells = {name: [value for value in values for _ in columns] for name, values in views.items()}
        return cells | {instants: columns * num_views}, len(columns)
    num = max(num_views, len(columns))
    if len(columns) not in (1, num) or num_views not in (1, num):
        raise InputError(f"--pairwise: expected as many times as cameras, got {len(columns)} and {num_views}")
    return {name: values * (num // len(values)) for name, values in (views | {instants: columns}).items()}, num


def lay_out_times(given: dict[str, list[float] | None], duration_s: float | None) -> tuple[str, list[Any]]:
    """The argument that says the time, and its values, None for no displacement; raises `InputError`."""
    if duration_s is not None and not given["seconds"]:
        raise InputError("--duration-s: expected --seconds beside it")
    if given["time"] and given["seconds"]:
        raise InputError("--seconds: expected no --time beside it")
    instants = "seconds" if given["seconds"] else "time"
    columns: list[Number] = [*(given[instants] or [None])]
    for instant in columns:
        if instants == "time":
            Displacement.from_user(instant, where="--")
        elif duration_s is not None:  # an adapter with a span of its own needs none
            Displacement.from_user(seconds=instant, duration_s=duration_s, where="--")
    return instants, columns


def lay_out_views(given: dict[str, list[float] | None], poses: list[Matrix] | None) -> dict[str, list[Any]]:
    """The arguments that say the camera, with values of one number, None for none; raises `InputError`."""
    views: dict[str, list[Number]] = {name: [*(given[name] or [None])] for name in ("azimuth", "elevation", "radius")}
    if poses is not None:
        if beside := [name for name in views if given[name]]:
            raise InputError(f"--relative-pose: expected no --{beside[0]} beside it")
        return {"relative_pose": [*poses]}
    num_views = max(len(values) for values in views.values())
    for name, values in views.items():
        if len(values) not in (1, num_views):
            raise InputError(
                f"--{name}: expected 1 or {num_views} values, as of the camera's others, got {len(values)}"
            )
        views[name] = values * (num_views // len(values))
    for azimuth, elevation, radius in zip(*views.values(), strict=True):
        Displacement.from_user(None, azimuth, elevation, radius, where="--")
    return views
