"""`fourdistill evaluate`: scores of pictures made by any system."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fourdistill.commands.outputs import check_out
from fourdistill.errors import InputError
from fourdistill.geometry.displacement import check_number
from fourdistill.shipped import default_base
from fourdistill.storage.files import new_file

if TYPE_CHECKING:
    from fourdistill.evaluation.metrics.feature_spaces import FeatureSpaces
    from fourdistill.evaluation.scoring import Scored

EXAMPLES = "`fourdistill evaluate --generated theirs/ --grid data/frames.parquet --json`"


def run(
    generated: Annotated[Path, typer.Option(readable=False, help="Folder of pictures with a `commands.csv`.")],
    grid: Annotated[Path, typer.Option(readable=False, help="Frames table of the true camera x time grids.")],
    frames: Annotated[
        str | None, typer.Option(help="Folder or address of the true frames; by default `frames/` beside the table.")
    ] = None,
    scenes: Annotated[
        Path | None, typer.Option(readable=False, help="Scenes table; by default `scenes.parquet` beside the grid.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Whose VAE and CLIP span the feature spaces; data/base/mini by default.")
    ] = None,
    space: Annotated[
        str, typer.Option(help="Declared feature space: pixels, latents, clip or efficientnet.")
    ] = "latents",
    large_gap: Annotated[
        float, typer.Option(help="Gap from which a pair is large in time: a share of the scene, or of --max-gap-s.")
    ] = 0.25,
    max_gap_s: Annotated[
        float | None,
        typer.Option(help="Seconds that a gap of 1 stands for, as `displacement.max_gap_s` of the normalizer seconds."),
    ] = None,
    large_azimuth_deg: Annotated[float, typer.Option(help="Azimuth from which a pair is large in view.")] = 60.0,
    num_bootstrap: Annotated[int, typer.Option(min=1, max=1_000_000, help="Resamplings behind each interval.")] = 1000,
    structure_from_motion: Annotated[
        bool, typer.Option("--structure-from-motion", help="Pose the orbits with COLMAP: for scenes with texture.")
    ] = False,
    second_opinion: Annotated[
        bool, typer.Option("--second-opinion", help="Judge by EfficientNet-Lite0 too; needs the extra second-opinion.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the resamplings.")] = 0,
    out: Annotated[Path | None, typer.Option(readable=False, help="Write the figures to this JSON file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Score pictures made by any system: image quality, control in time and view, sequences.

    `commands.csv` has the columns file, scene, source_camera, source_frame, target_camera, target_frame and sweep;
    `reports/evaluation/generated/` of `make repro` is an example. Exit status 2 where the input is not as expected.
    """
    # 1. Check the options, before anything that takes long
    check_limits(large_gap, large_azimuth_deg, max_gap_s)
    check_out("--out", out)

    # Here, since torch takes seconds to import and the other commands do without.
    from fourdistill.evaluation.folder import score_folder
    from fourdistill.evaluation.protocol.frames import FrameReader
    from fourdistill.evaluation.scoring import Scorer, ScoreSettings

    # 2. Load the models that span the feature spaces
    spaces = load_spaces(default_base(base), second_opinion=second_opinion)
    spaces.check(space, "--space")
    # 3. Score
    read = FrameReader(grid, frames or grid.parent / "frames", spaces.size)
    settings = ScoreSettings(space, large_gap, large_azimuth_deg, num_bootstrap, structure_from_motion)
    scorer = Scorer(read, spaces, grid, scenes or grid.with_name("scenes.parquet"), settings, seed)
    scored = score_folder(generated, scorer, max_gap_s)
    # 4. Write and show the figures
    show(scored, out, as_json=as_json)


def check_limits(large_gap: float, large_azimuth_deg: float, max_gap_s: float | None) -> None:
    """Raise `InputError` naming the option that is no finite number, or no span of time."""
    for option, value in (("--large-gap", large_gap), ("--large-azimuth-deg", large_azimuth_deg)):
        check_number(value, option)
    if max_gap_s is not None and check_number(max_gap_s, "--max-gap-s") <= 0:
        raise InputError(f"--max-gap-s: expected more than 0 seconds, found {max_gap_s:g}")


def load_spaces(base: str, *, second_opinion: bool) -> "FeatureSpaces":
    """The feature spaces of a base, on the default device; raises `InputError` where it cannot be loaded."""
    from fourdistill.evaluation.metrics.feature_spaces import FeatureSpaces
    from fourdistill.evaluation.metrics.second_opinion import SecondOpinion
    from fourdistill.models.base.model import load_base
    from fourdistill.models.base.precision import default_device

    loaded = load_base(base, with_ip_adapter=False).to(default_device())
    size = int(loaded.unet.config["sample_size"]) * 2 ** (len(loaded.vae.config["block_out_channels"]) - 1)
    opinion = SecondOpinion(default_device()) if second_opinion else None
    return FeatureSpaces(loaded.vae, loaded.image_encoder, loaded.feature_extractor, size, second_opinion=opinion)


def show(scored: "Scored", out: Path | None, *, as_json: bool) -> None:
    """Write the figures to a file, where one is named, and print them, as JSON or with remarks for a reader."""
    from fourdistill.evaluation.report.tables import format_figures

    metrics = scored.summary.metrics
    if out:
        with new_file(out) as partial:
            partial.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(metrics, indent=2))
        return
    typer.echo("\n\n".join([format_figures(metrics), *scored.remarks()]))
