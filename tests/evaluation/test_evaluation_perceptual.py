"""Perceptual metrics without their weights: all cases of missing weights, and the arithmetic around the networks.

Seeded random networks replace the pretrained ones. So the values say nothing about similarity, but they verify the
arithmetic, which is that of torchmetrics.
"""

import hashlib
import http.server
import socket
import threading
import time
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics.functional.image import lpips as torchmetrics_lpips
from torchmetrics.image.kid import KernelInceptionDistance

from fourdistill.evaluation.metrics import perceptual
from fourdistill.evaluation.metrics.perceptual import NotComputed


def pictures(count, size=64, seed=0):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def noisy(images, level):
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(9))
    return (images + level * noise).clamp(0, 1)


def random_alexnet_features(net, pretrained=False):
    """AlexNet's layers, with seeded random weights."""
    layers = [nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    layers += [nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    for width, out in ((192, 384), (384, 256), (256, 256)):
        layers += [nn.Conv2d(width, out, 3, padding=1), nn.ReLU()]
    generator = torch.Generator().manual_seed(1)
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, generator=generator)
    return nn.Sequential(*layers)


@pytest.fixture
def random_alexnet(monkeypatch):
    """torchmetrics' own LPIPS network with its trained heads, on AlexNet with random weights."""
    monkeypatch.setattr(torchmetrics_lpips, "_get_tv_model_features", random_alexnet_features)
    network = torchmetrics_lpips._NoTrainLpips(net="alex")
    monkeypatch.setattr(perceptual, "_alexnet", lambda: network)
    return network


class MeanColours(nn.Module):
    """Bytes (N, 3, H, W) => means of the first `dimensions` channels (N, D), in units of 255."""

    def __init__(self, dimensions=3):
        super().__init__()
        self.dimensions = dimensions

    def forward(self, x):
        assert x.dtype == torch.uint8
        return x[:, : self.dimensions].float().mean((2, 3)) / 255


@pytest.fixture
def mean_colours(monkeypatch):
    monkeypatch.setattr(perceptual, "_inception", MeanColours)


def lpips(images, truth) -> np.ndarray:
    values = perceptual.lpips(images, truth)
    assert isinstance(values, np.ndarray)
    return values


def is_one_line(result, metric, *words):
    assert isinstance(result, NotComputed) and result.metric == metric
    assert "\n" not in result.reason and all(word in result.reason for word in words), result.reason
    return True


def test_every_metric_has_a_backbone():
    assert set(perceptual.BACKBONES) == {"lpips", "kid", "fid"}


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is installed")
def test_lpips_without_torchvision_says_so():
    assert is_one_line(perceptual.lpips(pictures(2), pictures(2)), "lpips", "AlexNet", "torchvision is not installed")


@pytest.mark.skipif(find_spec("torch_fidelity") is not None, reason="torch-fidelity is installed")
def test_kid_and_fid_without_torch_fidelity_say_so():
    words = ("Inception-v3", "torch_fidelity is not installed")
    assert is_one_line(perceptual.kid(pictures(4), pictures(4), subset_size=2, seed=0), "kid", *words)
    many = torch.zeros(perceptual.DIMENSIONS + 1, 3, 1, 1)
    assert is_one_line(perceptual.fid(many, many), "fid", *words)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of torch.hub's."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def served():
    """A local server: its address, and its answer to every request."""
    answer = {"status": 200, "body": b"weights"}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(answer["status"])
            self.send_header("Content-Length", str(len(answer["body"])))
            self.end_headers()
            self.wfile.write(answer["body"])

        def log_message(self, format, *args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", answer
    server.shutdown()
    server.server_close()


HASH = hashlib.sha256(b"weights").hexdigest()[:8]


def test_weights_are_downloaded_once_and_then_found(cache, served):
    address, answer = served
    perceptual._fetch(f"{address}/net-{HASH}.pth")
    answer["status"] = 404
    perceptual._fetch(f"{address}/net-{HASH}.pth")
    assert [path.name for path in cache.iterdir()] == [f"net-{HASH}.pth"]
    assert socket.getdefaulttimeout() is None


def test_a_download_that_fails_leaves_nothing_behind(cache, served):
    address, answer = served
    with pytest.raises(RuntimeError, match="invalid hash"):
        perceptual._fetch(f"{address}/net-{'0' * 8}.pth")
    answer["status"] = 404
    with pytest.raises(OSError, match=f"net-{HASH}.pth is not in torch.hub's cache.*404"):
        perceptual._fetch(f"{address}/net-{HASH}.pth")
    assert not list(cache.iterdir())


def test_a_file_of_another_hash_is_refused_and_not_replaced(cache):
    cache.mkdir(parents=True)
    (cache / f"net-{HASH}.pth").write_bytes(b"something else")
    with pytest.raises(RuntimeError, match="remove this file"):
        perceptual._fetch(f"http://127.0.0.1:1/net-{HASH}.pth")
    assert (cache / f"net-{HASH}.pth").read_bytes() == b"something else"


def test_a_server_that_keeps_silent_is_given_up(cache, monkeypatch):
    monkeypatch.setattr(perceptual, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, never answers
        start = time.monotonic()
        with pytest.raises(OSError, match="timed out"):
            perceptual._fetch(f"http://127.0.0.1:{silent.getsockname()[1]}/net-{HASH}.pth")
        assert time.monotonic() - start < 5
    assert socket.getdefaulttimeout() is None


@pytest.mark.usefixtures("random_alexnet")
def test_lpips_is_per_image_zero_for_the_same_and_grows_with_noise():
    truth = pictures(5)
    same = lpips(truth, truth)
    assert same.shape == (5,) and same.dtype == np.float64
    assert (same == 0).all()
    levels = np.stack([lpips(noisy(truth, level), truth) for level in (0.02, 0.1, 0.5)])
    assert (np.diff(levels, axis=0) > 0).all() and (levels > 0).all()
    one = truth.clone()
    one[3] = noisy(truth, 0.5)[3]
    assert (lpips(one, truth) > 0).tolist() == [False, False, False, True, False]


def test_lpips_does_not_depend_on_batches_and_is_torchmetrics(random_alexnet, monkeypatch):
    images, truth = pictures(5, seed=1), pictures(5)
    expected = random_alexnet(images * 2 - 1, truth * 2 - 1).flatten()
    monkeypatch.setattr(perceptual, "BATCH_SIZE", 2)
    assert lpips(images, truth) == pytest.approx(expected.numpy(), rel=1e-5)
    assert lpips(images[:1], truth[:1]).shape == (1,)


@pytest.mark.usefixtures("random_alexnet")
def test_lpips_enlarges_small_pictures_and_refuses_unequal_shapes():
    enlarged = perceptual._enlarge(torch.rand(2, 3, 16, 32))
    assert enlarged.shape == (2, 3, 64, 128) and enlarged.min() >= 0 and enlarged.max() <= 1
    large = torch.rand(1, 3, 64, 80)
    assert perceptual._enlarge(large) is large
    assert lpips(pictures(2, size=8), pictures(2, size=8, seed=1)).shape == (2,)
    with pytest.raises(ValueError, match="one shape"):
        perceptual.lpips(pictures(2), pictures(1))


@pytest.mark.usefixtures("mean_colours")
@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save")
def test_kid_of_whole_sets_is_torchmetrics_kid():
    images, truth = pictures(12, size=4, seed=1), pictures(12, size=4)
    metric = KernelInceptionDistance(feature=MeanColours(), subsets=2, subset_size=12)
    metric.update((images * 255).round().byte(), real=False)
    metric.update((truth * 255).round().byte(), real=True)
    expected = metric.compute()[0]
    assert perceptual.kid(images, truth, subset_size=12, seed=0) == pytest.approx((float(expected), 0), abs=1e-6)


@pytest.mark.usefixtures("mean_colours")
def test_kid_is_near_zero_for_alike_sets_and_grows_with_their_distance():
    truth, alike = pictures(60, size=4), pictures(60, size=4, seed=1)
    values = [perceptual.kid(alike * share, truth, subset_size=30, seed=0) for share in (1, 0.8, 0.5)]
    means, deviations = np.transpose([value for value in values if isinstance(value, tuple)])
    assert abs(means[0]) < 0.01 < means[1] < means[2]
    assert (deviations > 0).all()


@pytest.mark.usefixtures("mean_colours")
def test_kid_depends_on_its_seed_alone():
    images, truth = pictures(10, size=4, seed=1), pictures(9, size=4)
    state = torch.get_rng_state()
    first = perceptual.kid(images, truth, subset_size=4, seed=3)
    assert first == perceptual.kid(images, truth, subset_size=4, seed=3)
    assert first != perceptual.kid(images, truth, subset_size=4, seed=4)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.usefixtures("mean_colours")
def test_kid_needs_a_subset_of_images():
    assert is_one_line(perceptual.kid(pictures(5), pictures(3), subset_size=4, seed=0), "kid", "3 images", "4")
    with pytest.raises(ValueError, match="at least 2"):
        perceptual.kid(pictures(5), pictures(5), subset_size=1, seed=0)


@pytest.mark.usefixtures("mean_colours")
def test_fid_needs_more_images_than_dimensions():
    assert perceptual.DIMENSIONS == 2048
    enough, too_few = torch.zeros(2049, 3, 1, 1), torch.zeros(2048, 3, 1, 1)
    assert is_one_line(perceptual.fid(enough, too_few), "fid", "2048 images")
    assert is_one_line(perceptual.fid(too_few, enough), "fid", "2048 images")
    assert perceptual.fid(enough, enough) == pytest.approx(0, abs=1e-9)


def test_fid_is_the_closed_form_in_one_dimension(monkeypatch):
    monkeypatch.setattr(perceptual, "_inception", lambda: MeanColours(1))
    monkeypatch.setattr(perceptual, "DIMENSIONS", 1)
    images, truth = pictures(40, size=1, seed=1) * 0.5, pictures(50, size=1)
    a, b = ((x[:, 0, 0, 0] * 255).round().numpy().astype(float) / 255 for x in (images, truth))
    expected = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    assert perceptual.fid(images, truth) == pytest.approx(expected, rel=1e-5)
    assert perceptual.fid(truth, truth) == pytest.approx(0, abs=1e-9)
