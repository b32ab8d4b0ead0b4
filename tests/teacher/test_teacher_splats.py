"""Gaussian splatting with a rasteriser in plain PyTorch; gsplat's own kernels need a CUDA device."""

import inspect
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from ball_scene import RADIUS, SIZE, TIMES, K, ball_center, camera_pose
from imports import ROOT
from stage_settings import settings_of

from fourdistill.errors import InputError
from fourdistill.tables import FRAMES, write_table
from fourdistill.teacher.gate import judge, score_camera, score_nearest
from fourdistill.teacher.reconstruct import reconstruct
from fourdistill.teacher.splats.fit_splats import fit_splats
from fourdistill.teacher.splats.gaussians import Gaussians
from fourdistill.teacher.splats.rasterizer import gsplat_rasterizer
from fourdistill.teacher.splats.splat_teacher import load_splats

sys.path.insert(0, str(ROOT / "benchmarks"))
from plain_rasterizer import rasterize

HELD_OUT = "cam2"
STAGE = settings_of("reconstruct", enabled=True, representation="gsplat")
SETTINGS = replace(STAGE.splats, num_splats=400, passes=20, lr=4.0)
SHORT = replace(SETTINGS, passes=4, checkpoint_passes=2)
ON_CPU = {"device": "cpu", "quiet": True}


@pytest.fixture(scope="module")
def fitted(scene, floor):
    return fit_splats(scene.without([HELD_OUT]), SETTINGS, 0, rasterize, floor=floor, **ON_CPU)


def test_the_rasteriser_of_these_tests_draws_a_gaussian_where_it_is():
    one = Gaussians(torch.tensor([[0.125, -0.025, 2.0]]), torch.tensor([[1.0, 0, 0]]), torch.zeros(1), 0.05, 1.0)
    intrinsics = torch.tensor([[40.0, 0, 16], [0, 40, 16], [0, 0, 1]])
    color, alpha, depth = (value[0] for value in rasterize(one.at(0.0), torch.eye(4)[None], intrinsics[None], (32, 32)))
    row, column = divmod(int(alpha.argmax()), 32)
    assert (column, row) == (18, 15)  # at 40 * 0.125 / 2 + 16 = 18.5 and 15.5, pixel centres
    assert depth.detach()[row, column] == pytest.approx(2.0) and alpha.detach().max() == pytest.approx(0.5, abs=0.05)
    assert color[row, column, 0] > 0.9 * alpha[row, column] and color[0, 0].abs().max() < 1e-3


def test_a_gaussian_moves_and_fades():
    one = Gaussians(torch.zeros(1, 3), torch.full((1, 3), 0.5), torch.tensor([0.4]), 0.1, duration=0.2)
    one.velocities.data[:] = torch.tensor([1.0, 0, 0])
    one.requires_grad_(False)
    now, later = one.at(0.4), one.at(0.6)
    assert now.means[0, 0] == 0 and later.means[0, 0] == pytest.approx(0.2)
    assert later.opacities / now.opacities == pytest.approx(np.exp(-0.5))


def test_a_held_out_camera_is_shown_better_than_by_the_nearest(scene, fitted):
    shown = score_camera(fitted, fitted.backdrop, scene, HELD_OUT)
    nearest = score_nearest(fitted.backdrop, scene, HELD_OUT)
    assert shown.box > nearest.box + 4 and shown.picture > nearest.picture + 5, (shown, nearest)  # 400 Gaussians
    assert judge(shown, nearest, STAGE.gate).may_teach, (shown, nearest)


def test_fitting_improves_on_the_start(scene, floor, fitted):
    start = fit_splats(scene.without([HELD_OUT]), SETTINGS, 0, rasterize, floor=floor, stop_after=0, **ON_CPU)
    before, after = (score_camera(each, each.backdrop, scene, HELD_OUT) for each in (start, fitted))
    assert after.box > before.box + 2, (before, after)


def test_depth_and_alpha_are_of_the_ball(fitted):
    pose = camera_pose(2 * np.pi / 3)
    center = ball_center(TIMES[1]) - pose[:3, 3]
    column, row, _ = K @ (pose[:3, :3].T @ center) / (center @ pose[:3, 2])
    seen = fitted.render(pose, K, TIMES[1])
    assert seen.image.shape == (SIZE, SIZE, 3) and seen.image.dtype == np.float32
    assert seen.alpha[int(row), int(column)] > 0.8
    assert seen.depth[int(row), int(column)] == pytest.approx(center @ pose[:3, 2] - RADIUS, abs=RADIUS)
    assert seen.alpha[0, 0] < 0.01 and np.isinf(seen.depth[0, 0])


def test_resumed_it_gives_the_same(scene, floor, tmp_path):
    train, checkpoint = scene.without([HELD_OUT]), tmp_path / "fit.safetensors"
    whole = fit_splats(train, SHORT, 0, rasterize, floor=floor, **ON_CPU)
    fit_splats(train, SHORT, 0, rasterize, floor=floor, checkpoint=checkpoint, stop_after=3, **ON_CPU)
    resumed = fit_splats(train, SHORT, 0, rasterize, floor=floor, checkpoint=checkpoint, **ON_CPU)
    for name, value in whole.gaussians.state_dict().items():
        assert torch.equal(value, resumed.gaussians.state_dict()[name]), name
    with pytest.raises(InputError, match="checkpoint of this fit"):
        fit_splats(train, SHORT, 1, rasterize, floor=floor, checkpoint=checkpoint, **ON_CPU)


def test_saved_and_loaded_it_renders_the_same(fitted, tmp_path):
    fitted.save(tmp_path / "teacher.safetensors")
    loaded = load_splats(tmp_path / "teacher.safetensors", rasterize, "cpu")
    for name in ("image", "alpha", "depth"):
        before, after = (getattr(it.render(camera_pose(0.3), K, TIMES[2]), name) for it in (fitted, loaded))
        if name != "image":
            np.testing.assert_array_equal(before, after)
        np.testing.assert_allclose(before, after, atol=2e-3)  # the backdrop is stored in half precision
    (tmp_path / "teacher.safetensors").write_bytes(b"no teacher")
    with pytest.raises(InputError, match=r"teacher\.safetensors"):
        load_splats(tmp_path / "teacher.safetensors", rasterize, "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_cuda_device_it_is_refused_before_anything_is_read(tmp_path):
    line = r"^reconstruct\.representation: expected kplanes on this machine: gsplat needs a CUDA device, found none$"
    with pytest.raises(InputError, match=line):
        gsplat_rasterizer()
    write_table(FRAMES.empty_table(), tmp_path / "frames.parquet")
    out, table, reports = (tmp_path / name for name in ("teacher", "teacher.parquet", "reports"))
    with pytest.raises(InputError, match=line):
        reconstruct(
            tmp_path / "none", tmp_path / "frames.parquet", tmp_path / "none", out, table, reports, STAGE, seed=0
        )
    assert not any(path.exists() for path in (out, table, reports))


def test_without_gsplat_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "gsplat", None)
    with pytest.raises(InputError, match=r"^reconstruct\.representation: expected the extra gsplat"):
        gsplat_rasterizer()


def test_gsplat_is_called_as_it_is_defined(monkeypatch):
    gsplat = pytest.importorskip("gsplat", reason="the extra gsplat is not installed")
    signature, calls = inspect.signature(gsplat.rasterization), []

    def called(*arguments, **options):
        given = signature.bind(*arguments, **options).arguments
        calls.append(given)
        views, size = given["viewmats"], (given["height"], given["width"])
        return torch.zeros(len(views), *size, 4), torch.zeros(len(views), *size, 1), {}

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gsplat, "rasterization", called)
    one = Gaussians.empty(3).at(0.0)
    color, alpha, depth = gsplat_rasterizer()(one, torch.eye(4)[None], torch.eye(3)[None], (4, 6))
    assert color.shape == (1, 4, 6, 3) and alpha.shape == depth.shape == (1, 4, 6)
    assert calls[0]["render_mode"] == "RGB+ED" and calls[0]["opacities"].shape == (3,)
