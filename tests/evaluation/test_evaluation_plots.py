"""The charts of an evaluation show what its tables of points hold."""

from fourdistill.evaluation.report.plots import commanded_and_obtained, grid, trade_off


def control(kind, new, source, target, found, azimuths=(0.0, 0.0)):
    """A row of control.csv; places are (camera, frame)."""
    return {
        "kind": kind,
        "scene": "walk",
        "new_scene": str(new),
        "commanded_frames": str(float(target[1] - source[1])),
        "obtained_frames": str(float(found[1] - source[1])),
        "commanded_azimuth_deg": str(azimuths[0]),
        "obtained_azimuth_deg": str(azimuths[1]),
        "source_azimuth_deg": "30.0",
    } | {
        f"{name}_{part}": str(value)
        for name, place in (("source", source), ("target", target), ("found", found))
        for part, value in zip(("camera", "frame"), place, strict=True)
    }


def test_equal_outcomes_are_one_mark_of_their_group():
    hit = control("time", False, ("a", 4), ("a", 6), ("a", 6))
    missed = control("time", True, ("a", 4), ("a", 6), ("a", 1))
    metrics = {"known_scene.time.mae_frames": 0.0, "new_scene.time.mae_frames": 5.04,
               "new_scene.time.mae_frames.ci_low": 4.0, "new_scene.time.mae_frames.ci_high": 6.0}  # fmt: skip
    [chart] = commanded_and_obtained([hit, hit, hit, hit, missed], metrics)
    known, new = chart.series
    assert (known.name, new.name) == (
        "known scenes: off by 0.0 frames",
        "new scenes: off by 5.0 frames (4.0 to 6.0)",
    )
    assert [(p.x, p.y) for p in (*known.points, *new.points)] == [(2, 2), (2, -3)]
    assert known.points[0].radius == 2 * new.points[0].radius  # four times the area
    assert known.points[0].text == "4 × known scenes:\ncommanded +2 frames, found at +2 frames"


def test_azimuths_are_on_the_shorter_arc():
    rows = [control("view", True, ("a", 4), ("b", 4), ("c", 4), (180.0, angle)) for angle in (-135.0, 135.0, 0.0)]
    [chart] = commanded_and_obtained(rows, {})
    assert sorted(point.y for point in chart.series[0].points) == [0, 135, 225]
    assert chart.series[0].name == "new scenes"


def test_a_grid_shows_hits_misses_and_sources_by_camera_in_order_of_azimuth():
    rows = [
        control("view", False, ("cam2", 4), ("cam0", 4), ("cam0", 4), (90.0, 90.0)),
        control("view", False, ("cam2", 4), ("cam1", 4), ("cam0", 5), (-90.0, 90.0)),
        control("joint", False, ("cam2", 0), ("cam1", 7), ("cam1", 7), (-90.0, -90.0)),
    ]
    chart = grid([*rows, rows[0] | {"scene": "run"}], "walk")
    assert chart.title == "walk (known scene)"
    assert list(chart.y.ticks.values()) == ["cam2", "cam0", "cam1"]  # 30°, 120°, 300°
    time, camera, joint = chart.series
    assert (time.points, camera.name, joint.name) == ([], "camera sweep: 1 of 2", "joint commands: 1 of 1")
    start, hit, missed = camera.points
    assert start.square and (start.x, start.y) == (4, 0)
    assert not hit.hollow and hit.leads_to is None and (hit.x, hit.y) == (4, 1)
    assert missed.hollow and missed.leads_to == (5, 1) and (missed.x, missed.y) == (4, 2)
    assert missed.text == "camera sweep\ncommanded: frame 4, cam1\nfound: frame 5, cam0"


def test_without_poses_cameras_are_in_order_of_their_names():
    row = control("time", True, ("b", 0), ("a", 2), ("c", 2)) | {"source_azimuth_deg": ""}
    assert list(grid([row], "walk").y.ticks.values()) == ["a", "b", "c"]
    assert [chart.title for chart in commanded_and_obtained([row], {})] == ["Time, commanded and obtained"]


def edit(setting, lambda_, guidance, clip_t, clip_i, **more):
    return {"setting": setting, "lambda": str(lambda_), "text_guidance": str(guidance),
            "clip_t": str(clip_t), "clip_i": str(clip_i), "azimuth_deg": ""} | more  # fmt: skip


def test_the_trade_off_is_a_line_over_the_strength_and_one_over_lambda():
    interval = {"clip_t_low": "0.3", "clip_t_high": "0.5", "clip_i_low": "", "clip_i_high": ""}
    rows = [
        edit("as pictured", 3.0, 1.0, 0.2, 0.7),
        edit("as in the prompt", 2.0, 10.0, 0.4, 0.35, **interval),
        edit("lambda 3", 3.0, 10.0, 0.3, 0.45),
        edit("lambda 0", 0.0, 10.0, 0.6, 0.1),
    ]
    [chart] = trade_off(rows)
    strength, over_lambda = chart.series
    assert [point.name for point in strength.points] == ["as pictured", "as in the prompt"]
    # What both lines share has its name and its interval once.
    assert [point.name for point in over_lambda.points] == ["λ 0", "", "λ 3"]
    assert over_lambda.points[1].x_interval is None and strength.points[1].x_interval == (0.3, 0.5)
    assert strength.points[1].y_interval is None
    text = strength.points[1].text.splitlines()
    assert text[:2] == ["as in the prompt: λ 2, text guidance 10", "to the prompt: 0.40 (0.30 to 0.50)"]
    assert not any(line.startswith("azimuth") for line in text)


def test_without_edits_there_is_no_trade_off():
    assert trade_off([]) == []
    assert trade_off([edit("as pictured", 3.0, 1.0, "", "")]) == []
