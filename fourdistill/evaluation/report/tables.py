"""The figures of an evaluation as tables for a terminal."""

from collections.abc import Mapping, Sequence

from fourdistill.evaluation.systems.side_by_side import COPY, LAMBDA_0, MODEL, NEAREST, SHUFFLED, VAE, ZERO
from fourdistill.tables import KINDS

LABELS = {
    MODEL: "generated",
    COPY: "copy the condition",
    ZERO: "displacement zero",
    SHUFFLED: "displacement shuffled",
    LAMBDA_0: "lambda 0",
    NEAREST: "nearest training frame",
    VAE: "truth through the VAE",
}
PROMPTS = {
    "editability.": "as in the prompt",
    "editability.as_pictured.": "as pictured",
    "editability.lambda_0.": "lambda 0",
    "editability.own_lambda.": "the adapter's lambda",
}
Columns = Mapping[str, tuple[str, int]]
"""Heading => the name of the metric and its number of decimals."""

QUALITY: Columns = {
    "PSNR, dB": ("psnr", 2),
    "small": ("psnr.small", 2),
    "large": ("psnr.large", 2),
    "new scenes": ("new_scene.psnr", 2),
    "SSIM": ("ssim", 3),
    "large ": ("ssim.large", 3),
}
CONTROL: Columns = {
    "time: frames": ("time.mae_frames", 2),
    "spearman": ("time.spearman", 2),
    "azimuth°": ("view.azimuth_error_deg", 1),
    "joint top-1": ("joint.top1", 3),
    "leak: frames": ("leakage.time_frames", 2),
    "leak: azimuth°": ("leakage.azimuth_deg", 1),
}
SILHOUETTES: Columns = {
    "IoU, known": ("known_scene.silhouette.iou", 3),
    "new": ("new_scene.silhouette.iou", 3),
    "loose, known": ("known_scene.silhouette.loose", 4),
    "new ": ("new_scene.silhouette.loose", 4),
    "ΔE, known": ("known_scene.colour.delta_e", 1),
    "new  ": ("new_scene.colour.delta_e", 1),
}
OPINION: Columns = {
    "distance": ("efficientnet.distance", 3),
    "new scenes": ("new_scene.efficientnet.distance", 3),
    "KID": ("efficientnet.kid", 4),
    "time: frames": ("efficientnet.time.mae_frames", 2),
    "azimuth°": ("efficientnet.view.azimuth_error_deg", 1),
    "joint top-1": ("efficientnet.joint.top1", 3),
}
SEQUENCES: Columns = {
    "time: warp error": ("sequence.time.warp_error", 4),
    "similarity": ("sequence.time.similarity", 3),
    "distance": ("sequence.time.distance", 3),
    "view: warp error": ("sequence.view.warp_error", 4),
    "similarity ": ("sequence.view.similarity", 3),
    "distance ": ("sequence.view.distance", 3),
}
POSES: Columns = {
    "rotation°": ("pose.rotation_error_deg", 2),
    "direction°": ("pose.direction_error_deg", 2),
    "translation": ("pose.translation_error", 3),
    "failed": ("pose.failure_rate", 2),
}
EDITS: Columns = {
    "prompt: CLIP": ("clip_t", 3),
    "truth: CLIP": ("clip_i", 3),
    "time: frames": ("time_frames", 2),
    "azimuth°": ("azimuth_deg", 1),
}


def in_group(columns: Columns, group: str) -> Columns:
    """The same figures for a group of scenes."""
    return {heading: (f"{group}.{name}", digits) for heading, (name, digits) in columns.items()}


SECTIONS: Mapping[str, Columns] = {
    "Control": CONTROL,
    "Control, known scenes": in_group(CONTROL, "known_scene"),
    "Control, new scenes": in_group(CONTROL, "new_scene"),
    "Image quality": QUALITY,
    "Silhouette and colour": SILHOUETTES,
    "Second opinion": OPINION,
    "Sequences": SEQUENCES,
    "Poses": POSES,
    "Prompts": EDITS,
}


def labels_of(title: str) -> Mapping[str, str]:
    """The rows of a section: prefix of the figures => row label."""
    return PROMPTS if SECTIONS[title] is EDITS else LABELS


def format_figures(metrics: Mapping[str, float]) -> str:
    """All tables for a terminal; tables without figures are left out."""
    quality = format_quality(metrics) if "num_pairs" in metrics else ""
    others = {
        name: format_section(metrics, columns, labels_of(name))
        for name, columns in SECTIONS.items()
        if columns is not QUALITY
    }
    return "\n\n".join([quality, *(f"{name}\n{text}" for name, text in others.items() if text)]).strip()


def format_quality(metrics: Mapping[str, float]) -> str:
    """Image quality as a table for a terminal: one row per score and system, one column per group of pairs."""
    groups = {"all": "{}", "small": "{}.small", "large": "{}.large"} | {kind: kind + ".{}" for kind in KINDS}
    groups |= {"known": "known_scene.{}", "new": "new_scene.{}"}
    rows = [["pairs", *(f"{metrics[pattern.format('num_pairs')]:.0f}" for pattern in groups.values())]]
    for metric, digits in (("psnr", 2), ("ssim", 3)):
        for prefix, label in LABELS.items():
            cells = [_cell(metrics, prefix + pattern.format(metric), digits) for pattern in groups.values()]
            if set(cells) != {"-"}:
                rows.append([f"{metric.upper()}, {label}", *cells])
    return format_rows(["", *groups], rows)


def format_section(metrics: Mapping[str, float], columns: Columns, labels: Mapping[str, str]) -> str:
    """One row per prefix, one column per metric; empty if there are no figures."""
    rows = [
        [label, *(_cell(metrics, prefix + name, digits) for name, digits in columns.values())]
        for prefix, label in labels.items()
    ]
    rows = [row for row in rows if set(row[1:]) != {"-"}]
    return format_rows(["", *columns], rows) if rows else ""


def format_rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align text cells in columns: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in [header, *rows]
    )


def _cell(metrics: Mapping[str, float], name: str, digits: int) -> str:
    return f"{metrics[name]:.{digits}f}" if name in metrics else "-"
