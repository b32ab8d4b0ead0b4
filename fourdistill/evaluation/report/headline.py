"""The main figures for comparing runs, under names short enough for one row of a terminal."""

from collections.abc import Mapping

HEADLINE = {
    "psnr": "psnr",
    "psnr.new": "new_scene.psnr",
    "iou": "silhouette.iou",
    "loose": "silhouette.loose",
    "delta_e": "colour.delta_e",
    "time": "known_scene.time.mae_frames",
    "azimuth": "known_scene.view.azimuth_error_deg",
    "top1": "known_scene.joint.top1",
    "time.new": "new_scene.time.mae_frames",
    "azim.new": "new_scene.view.azimuth_error_deg",
    "top1.new": "new_scene.joint.top1",
    "rank.new": "new_scene.time.spearman",
    "leak.time": "leakage.time_frames",
    "edit.clip": "editability.clip_t",
    "edit.time": "editability.time_frames",
}
"""Short name => full name, see `metrics.summary`."""

DIGITS = 4  # significant digits; further ones are noise


def headline(figures: Mapping[str, float]) -> dict[str, float]:
    """All figures => those of `HEADLINE` that were measured, rounded."""
    return {short: float(f"{figures[name]:.{DIGITS}g}") for short, name in HEADLINE.items() if name in figures}
