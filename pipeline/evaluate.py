"""Stage `evaluate`: held-out pairs and sweeps through the adapter, scored and shown."""

from dataclasses import asdict

from fourdistill.config import Params
from fourdistill.evaluation.evaluate import EvaluationSettings, evaluate
from fourdistill.evaluation.scores import format_table
from fourdistill.inference.pipeline import FourDistillPipeline
from fourdistill.models.precision import default_device
from fourdistill.stage import run_stage


def main(params: Params) -> None:
    """Evaluate paths.adapter on test pairs: paths.metrics, plots/displacement.csv, reports/evaluation/."""
    paths, pairs = params.paths, params.build_pairs
    metrics = evaluate(
        FourDistillPipeline.from_pretrained(paths.base, adapter=paths.adapter).to(default_device()),
        paths.frames_table,
        paths.frames,
        paths.pairs_table,
        EvaluationSettings(**asdict(params.evaluate)),
        metrics_path=paths.metrics,
        plot_path=paths.plots / "displacement.csv",
        report_folder=paths.reports / "evaluation",
        seed=params.seed,
        max_gap=pairs.max_gap,
        max_gap_s=pairs.max_gap_s if pairs.normalizer == "seconds" else None,
    )
    print(format_table(metrics))


if __name__ == "__main__":
    run_stage(main)
