"""Stage `evaluate`: held-out pairs and sweeps through the adapter, scored and shown."""

from typing import TYPE_CHECKING

from fourdistill.evaluation.evaluate import Inputs, Outputs, evaluate
from fourdistill.evaluation.report.tables import format_figures
from fourdistill.inference.pipeline import FourDistillPipeline
from fourdistill.models.base.precision import default_device
from fourdistill.stage import run_stage

if TYPE_CHECKING:
    from fourdistill.params import Params


def main(params: "Params") -> None:
    """Evaluate paths.adapter on test pairs and grids: paths.metrics, paths.plots, and what is in paths.reports."""
    paths, displacement = params.paths, params.displacement
    scored = evaluate(
        FourDistillPipeline.from_pretrained(paths.base, adapter=paths.adapter).to(default_device()),
        Inputs(
            paths.base,
            paths.frames_table,
            paths.frames,
            paths.features,
            paths.pairs_table,
            paths.scenes_table,
            displacement.max_gap,
            displacement.max_gap_s,
        ),
        Outputs(
            paths.metrics,
            paths.reports / "figures.json",
            paths.plots,
            paths.reports / "evaluation",
            paths.reports / "index.html",
        ),
        params.evaluate,
        seed=params.seed,
    )
    print(format_figures(scored.summary.metrics), "\n".join(scored.remarks()), sep="\n\n")


if __name__ == "__main__":
    run_stage(main)
