"""The charts of an evaluation, from the points that it writes to `plots/`."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from fourdistill.evaluation.report.charts import Axis, Chart, Point, Range, Series

Row = Mapping[str, str]
GROUPS = {"known scenes": "False", "new scenes": "True"}
"""Name => what `new_scene` is in the table."""
SWEEPS = {"time sweep": "time", "camera sweep": "view", "joint commands": "joint"}
TURN = 360
ROW = 17  # pixels between two cameras of a grid
QUARTERS = {float(angle): f"{angle}°".replace("-", "−") for angle in range(-360, 361, 90)}


def read_points(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file of points."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def commanded_and_obtained(points: Sequence[Row], metrics: Mapping[str, float]) -> list[Chart]:
    """Commanded against obtained displacement in time and in azimuth; `points` are those of `control.csv`."""
    in_time = [point for point in points if point["kind"] != "view"]
    in_view = [point for point in points if point["kind"] != "time"]
    charts = []
    if in_time:
        pairs = [(p["new_scene"], float(p["commanded_frames"]), float(p["obtained_frames"])) for p in in_time]
        axes = Axis("commanded time, frames (above 0: later)"), Axis("obtained time, frames")
        series = _bubbles(pairs, metrics, ("time.mae_frames", " frames", 1), " frames")
        charts.append(Chart("Time, commanded and obtained", *axes, series, diagonal=True))
    if in_view:
        pairs = [
            (p["new_scene"], *_along_shorter_arc(float(p["commanded_azimuth_deg"]), float(p["obtained_azimuth_deg"])))
            for p in in_view
        ]
        furthest = max((abs(obtained) for *_, obtained in pairs), default=0)
        shown = [{angle: text for angle, text in QUARTERS.items() if abs(angle) <= most} for most in (180, furthest)]
        axes = Axis("commanded azimuth", shown[0]), Axis("obtained azimuth", shown[1])
        series = _bubbles(pairs, metrics, ("view.azimuth_error_deg", "°", 0), "°")
        charts.append(Chart("Azimuth, commanded and obtained", *axes, series, diagonal=True))
    return charts


def _along_shorter_arc(commanded: float, obtained: float) -> Range:
    """Both angles in degrees, the obtained one at most half a turn from the commanded one."""
    return commanded, commanded + (obtained - commanded + TURN / 2) % TURN - TURN / 2


def _bubbles(
    pairs: Sequence[tuple[str, float, float]], metrics: Mapping[str, float], error: tuple[str, str, int], unit: str
) -> list[Series]:
    """A series for known and one for new scenes, with their errors; the area of a bubble is its number of commands."""
    metric, error_unit, digits = error
    found = []
    for shift, (group, is_new) in zip((-3, 3), GROUPS.items(), strict=True):
        counted = Counter((round(x), round(y)) for new, x, y in pairs if new == is_new)
        points = [
            Point(x, y, f"{count} × {group}:\ncommanded {x:+}{unit}, found at {y:+}{unit}", radius=1.7 * count**0.5)
            for (x, y), count in counted.items()
        ]
        name = f"{'new' if is_new == 'True' else 'known'}_scene.{metric}"
        off = f": off by {with_interval(metrics, name, digits, error_unit)}" if name in metrics else ""
        found.append(Series(group + off, points, shift=shift))
    return [series for series in found if series.points]


def with_interval(metrics: Mapping[str, float], name: str, digits: int, unit: str = "") -> str:
    """A figure and its 95 % interval, if it has one."""
    middle, low, high = (
        f"{metrics[each]:.{digits}f}" if each in metrics else "" for each in (name, f"{name}.ci_low", f"{name}.ci_high")
    )
    return f"{middle}{unit} ({low} to {high})" if low else f"{middle}{unit}"


def grid(points: Sequence[Row], scene: str) -> Chart:
    """The camera × time grid of a scene with the commands of its sweeps on it; `points` as in `control.csv`."""
    rows = [point for point in points if point["scene"] == scene]
    cameras = _order_cameras(rows)
    places = {name: [(float(row[f"{name}_frame"]), float(cameras[row[f"{name}_camera"]])) for row in rows]
              for name in ("source", "target", "found")}  # fmt: skip
    series = []
    for name, kind in SWEEPS.items():
        members = [i for i, row in enumerate(rows) if row["kind"] == kind]
        if not members:
            series.append(Series("", []))  # the others keep their colours
            continue
        hits = [places["found"][i] == places["target"][i] for i in members]
        start = Point(*places["source"][members[0]], f"{name}: starts from here", radius=6.5, hollow=True, square=True)
        marks = [start]
        for i, hit in zip(members, hits, strict=True):
            leads_to = None if hit else places["found"][i]
            text = _describe(name, rows[i], hit)
            marks.append(Point(*places["target"][i], text, hollow=not hit, leads_to=leads_to))
        series.append(Series(f"{name}: {sum(hits)} of {len(hits)}", marks))
    group = next(name for name, is_new in GROUPS.items() if is_new == rows[0]["new_scene"]).rstrip("s")
    axes = Axis("frame"), Axis("camera", {row: camera for camera, row in cameras.items()})
    return Chart(f"{scene} ({group})", *axes, series, height=max(60, ROW * len(cameras)))


def _describe(sweep: str, row: Row, hit: bool) -> str:
    target, found = (f"frame {row[f'{name}_frame']}, {row[f'{name}_camera']}" for name in ("target", "found"))
    return f"{sweep}\ncommanded: {target}\nfound: {'there' if hit else found}"


def _order_cameras(rows: Sequence[Row]) -> dict[str, int]:
    """Camera => its row, by azimuth where it is known, else by name."""
    azimuths: dict[str, float] = {}
    for place, column in {"source": "", "target": "commanded_azimuth_deg", "found": "obtained_azimuth_deg"}.items():
        for row in rows:
            azimuth = float(row["source_azimuth_deg"] or 0) + float(row[column] if column else 0)
            azimuths.setdefault(row[f"{place}_camera"], round(azimuth) % TURN)
    return {camera: i for i, camera in enumerate(sorted(azimuths, key=lambda camera: (azimuths[camera], camera)))}


def trade_off(points: Sequence[Row]) -> list[Chart]:
    """Fidelity against editability over the prompt's strength and over lambda; `points` as in `editability.csv`."""
    known = [point for point in points if point["clip_t"] and point["clip_i"]]
    if not known:
        return []
    strengths = [point for point in known if not point["setting"].startswith("lambda ")]
    full = max(strengths, key=lambda point: float(point["text_guidance"]), default=None)
    lambdas = [point for point in known if point not in strengths] + ([full] if full else [])
    over_lambda = [_edit_point(p, named=p is not full) for p in sorted(lambdas, key=lambda p: float(p["lambda"]))]
    series = [
        Series("prompt_strength from 0 to 1", [_edit_point(point) for point in strengths], line=True),
        Series("λ alone, guided by the text as at 1", over_lambda, line=True),
    ]
    axes = Axis("similarity to the prompt (editability)"), Axis("similarity to the truth (fidelity)")
    drawn = [each for each in series if each.points]
    return [Chart("Fidelity and editability, over prompt_strength and λ", *axes, drawn, height=260)]


def _edit_point(row: Row, *, named: bool = True) -> Point:
    name = row["setting"].replace("lambda", "λ")
    lines = {"to the prompt": ("clip_t", 2, ""), "to the truth": ("clip_i", 2, "")}
    lines |= {"time": ("time_frames", 1, " frames off"), "azimuth": ("azimuth_deg", 0, "° off")}
    figures = {column.replace("_low", ".ci_low").replace("_high", ".ci_high"): float(value)
               for column, value in row.items() if column != "setting" and value}  # fmt: skip
    text = [f"{name}: λ {figures['lambda']:g}, text guidance {figures['text_guidance']:g}"]
    text += [f"{label}: {with_interval(figures, *of)}" for label, of in lines.items() if of[0] in figures]

    def interval(column: str) -> Range | None:
        low = figures.get(f"{column}.ci_low")
        return None if low is None else (low, figures[f"{column}.ci_high"])

    return Point(
        figures["clip_t"], figures["clip_i"], "\n".join(text), name if named else "",
        interval("clip_t") if named else None, interval("clip_i") if named else None,
    )  # fmt: skip
