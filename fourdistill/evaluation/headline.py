"""The figures that a person compares between runs, under names short enough for one row of a terminal."""

from collections.abc import Mapping

HEADLINE = {
    "psnr": "psnr",
    "psnr.new": "new_scene.psnr",
    "time": "known_scene.time.mae_frames",
    "azimuth": "known_scene.view.azimuth_error_deg",
    "top1": "known_scene.joint.top1",
    "rank": "known_scene.time.spearman",
    "time.new": "new_scene.time.mae_frames",
    "azim.new": "new_scene.view.azimuth_error_deg",
    "top1.new": "new_scene.joint.top1",
    "rank.new": "new_scene.time.spearman",
    "leak.time": "leakage.time_frames",
    "leak.azim": "leakage.azimuth_deg",
    "edit.clip": "editability.clip_t",
    "edit.time": "editability.time_frames",
    "edit.azim": "editability.azimuth_deg",
}
"""Short name => the name among all figures, see `scores`."""

DIGITS = 4  # significant ones: what more of them say is noise


def headline(figures: Mapping[str, float]) -> dict[str, float]:
    """All figures => those of `HEADLINE` that were measured, rounded."""
    return {short: float(f"{figures[name]:.{DIGITS}g}") for short, name in HEADLINE.items() if name in figures}
