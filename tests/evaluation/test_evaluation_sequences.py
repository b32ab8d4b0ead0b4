import numpy as np
import pytest
from PIL import Image

from fourdistill.evaluation.metrics.sequences import SequenceDistance, similarity, warp_error

RNG = np.random.default_rng(0)


def moving_texture(steps=5, shift=2.0, size=64) -> list[Image.Image]:
    """Windows of one smooth texture, each `shift` pixels further right."""
    texture = RNG.integers(0, 256, (24, 40, 3), dtype=np.uint8)
    wide = Image.fromarray(texture).resize((size * 2, size + 16), Image.Resampling.BICUBIC)
    boxes = [(8 + shift * i, 8, 8 + shift * i + size, 8 + size) for i in range(steps)]
    return [wide.resize((size, size), Image.Resampling.BICUBIC, box=box) for box in boxes]


TRUTH = moving_texture()


def noisy(frames, level):
    rng = np.random.default_rng(1)
    arrays = [np.asarray(frame, float) + rng.normal(size=np.asarray(frame).shape) * level for frame in frames]
    return [Image.fromarray(array.clip(0, 255).astype(np.uint8)) for array in arrays]


def test_the_truth_warps_on_to_itself_and_nothing_else_does():
    errors = {
        "truth": warp_error(TRUTH, TRUTH),
        "still": warp_error([TRUTH[0]] * 5, TRUTH),
        "backwards": warp_error(TRUTH[::-1], TRUTH),
        "shuffled": warp_error([TRUTH[i] for i in (2, 0, 4, 1, 3)], TRUTH),
    }
    assert errors["truth"] < 2e-3
    assert errors["truth"] * 3 < errors["still"] < errors["backwards"]
    assert errors["still"] < errors["shuffled"]


def test_flicker_raises_the_warping_error_step_by_step():
    errors = [warp_error(noisy(TRUTH, level), TRUTH) for level in (0, 10, 20, 40)]
    assert (np.diff(errors) > 0).all()


def test_a_uniform_sequence_without_motion_has_no_warping_error():
    grey = [Image.new("RGB", (32, 32), (90, 90, 90))] * 3
    assert warp_error(grey, grey) == 0


def test_similarity_is_one_for_a_still_and_less_for_a_moving_sequence():
    walk = np.cumsum(RNG.normal(size=(6, 8)), axis=0) + 3
    walk /= np.linalg.norm(walk, axis=1, keepdims=True)
    assert similarity(np.repeat(walk[:1], 6, axis=0)) == pytest.approx(1)
    assert similarity(walk) < 0.999


def sequences(count, seed, noise=0.1):
    """Features (count, 5, 4) of sequences that rotate at one speed from random starts."""
    rng = np.random.default_rng(seed)
    angles = rng.uniform(0, 0.5, (count, 1)) + 0.3 * np.arange(5)
    features = np.stack([np.cos(angles), np.sin(angles), np.cos(2 * angles), np.sin(2 * angles)], axis=2)
    return features + noise * rng.normal(size=features.shape)


def test_distance_is_unbiased_and_sees_the_order():
    same = [SequenceDistance(sequences(12, seed), sequences(12, seed + 500)).value() for seed in range(200)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(len(same))
    apart = [SequenceDistance(sequences(12, s)[:, ::-1], sequences(12, s + 500)).value() for s in range(20)]
    assert min(apart) > np.quantile(same, 0.975)


def test_the_same_sequences_have_no_distance():
    assert SequenceDistance(sequences(5, 0), sequences(5, 0)).value() == pytest.approx(0, abs=1e-9)


def test_interval_holds_the_value_and_follows_the_seed():
    distance = SequenceDistance(sequences(12, 0)[:, ::-1], sequences(12, 1))
    low, high = distance.interval(300, np.random.default_rng(0))
    assert low < distance.value() < high
    assert (low, high) == distance.interval(300, np.random.default_rng(0))


def test_drawing_every_sequence_alike_changes_nothing():
    distance = SequenceDistance(sequences(5, 0), sequences(5, 1))
    assert distance.value(np.full(5, 3.0)) == pytest.approx(distance.value())
