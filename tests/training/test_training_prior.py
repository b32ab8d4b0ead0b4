import json
import random
import tempfile
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from accelerate.state import AcceleratorState
from processes import losses
from safetensors.numpy import save_file
from stage_settings import changed, prior_settings
from touches import count_touches, kill

from fourdistill.errors import InputError
from fourdistill.features.augmentations import augmentations
from fourdistill.features.settings import Augmentations
from fourdistill.models.codec import fit_codec
from fourdistill.models.mirror import CodeMirror
from fourdistill.models.prior import DisplacementPrior, PriorConfig
from fourdistill.models.settings import ViewEncoding
from fourdistill.pairs.frame_pairs import read_frame_pairs
from fourdistill.tables import PAIRS, write_table
from fourdistill.training.prior import embeds as prior_embeds
from fourdistill.training.prior import train as train_module
from fourdistill.training.prior.codes import PairCodes
from fourdistill.training.prior.embeds import FrameEmbeds
from fourdistill.training.prior.task import PriorTask
from fourdistill.training.prior.train import train_prior

SETTINGS = prior_settings(
    num_components=8, batch_size=16, max_steps=6, learning_rate=1e-3, warmup_steps=2, validate_every=3,
    start_share=0.0, width=32, depth=1, num_rotations=16, logging={"every": 2}, checkpoints={"every": 3},
)  # fmt: skip
MIRRORED = Augmentations(mirror=True, recolour=False)
NUM_CAMERAS, NUM_FRAMES, TOKENS, WIDTH, RANK = 6, 9, 5, 8, 6


def embeds_at(scene, azimuth, time):
    """Embeddings (TOKENS, WIDTH) of a scene: waves over azimuth and time in a subspace of RANK dimensions.

    Every second wave is odd in the azimuth, so embeddings of mirror images are linear in those of the images.
    """
    space = np.random.default_rng(99).standard_normal((RANK, TOKENS, WIDTH))
    phase = np.random.default_rng(scene).uniform(0, 2 * np.pi, RANK)
    around = np.array([1, *(wave(azimuth * n) for n in (1, 2) for wave in (np.sin, np.cos)), np.sin(3 * azimuth)])
    waves = around * np.cos(phase + time * np.array([3, 0, 2, 1, 5, 4]))
    return np.tensordot(waves, space, axes=1).astype(np.float16)


def write_data(folder, counts=None):
    """Write features of two scenes, and random pairs of their frames; mirrored images have -azimuth."""
    azimuths, times = 2 * np.pi * np.arange(NUM_CAMERAS) / NUM_CAMERAS, np.linspace(0, 1, NUM_FRAMES)
    for scene in range(2):
        for camera, azimuth in enumerate(azimuths):
            path = folder / "features" / f"s{scene}" / f"cam{camera:02d}.safetensors"
            path.parent.mkdir(parents=True, exist_ok=True)
            features = {
                "frame_index": np.arange(NUM_FRAMES, dtype=np.int32),
                "latents": np.zeros((NUM_FRAMES, 1, 1, 1), np.float16),
                "image_embeds": np.stack([embeds_at(scene, azimuth, time) for time in times]),
                "mirrored_embeds": np.stack([embeds_at(scene, -azimuth, time) for time in times]),
                **{
                    change.feature: np.stack(
                        [embeds_at(scene + 10 * number, azimuth * (-1) ** change.mirror, time) for time in times]
                    )
                    for number, change in enumerate(augmentations(True, True)[2:], 1)
                },
            }
            save_file(features, path)
    rng, rows = np.random.default_rng(0), []
    for split, count in (counts or {"train": 60, "val": 20}).items():
        for _ in range(count):
            kind = ("time", "view", "joint")[len(rows) % 3]
            scene, camera_a, camera_b = rng.integers((2, NUM_CAMERAS, NUM_CAMERAS))
            frame_a, frame_b = rng.integers(NUM_FRAMES, size=2)
            camera_b, frame_b = camera_a if kind == "time" else camera_b, frame_a if kind == "view" else frame_b
            posed = kind != "time"
            rows.append(
                {
                    "pair_id": len(rows),
                    "kind": kind,
                    "scene": f"s{scene}",
                    "source_camera": f"cam{camera_a:02d}",
                    "source_frame": frame_a,
                    "target_camera": f"cam{camera_b:02d}",
                    "target_frame": frame_b,
                    "gap": frame_a - frame_b,
                    "gap_s": 0.0,
                    "normalized_gap": times[frame_a] - times[frame_b],
                    "relative_pose": np.eye(3, 4).ravel().tolist() if posed else None,
                    "delta_azimuth": azimuths[camera_b] - azimuths[camera_a] if posed else None,
                    "delta_elevation": 0.0 if posed else None,
                    "delta_radius": 0.0 if posed else None,
                    "caption": None,
                    "split": split,
                }
            )
    write_table(pa.Table.from_pylist(rows, schema=PAIRS), folder / "pairs.parquet")
    return folder


@pytest.fixture(autouse=True)
def own_accelerator_state():
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("toy"))


def run(
    data,
    folder,
    settings=SETTINGS,
    augmented=MIRRORED,
    view_encoding: ViewEncoding = "spherical",
    seed=0,
    pretrained=None,
):
    return train_prior(
        data / "pairs.parquet",
        data / "features",
        settings,
        augmented,
        view_encoding,
        seed,
        prior_folder=folder / "prior",
        live_folder=folder / "live",
        checkpoint_folder=folder / "checkpoint",
        pretrained=pretrained,
    )


def weights(folder):
    return DisplacementPrior.load(folder / "prior").state_dict()


def assert_same(first, second):
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_further_sources_lead_to_the_same_target(data):
    pairs = read_frame_pairs(data / "pairs.parquet", "train")
    embeds = torch.randn(len(pairs.keys), TOKENS, WIDTH)
    coded = PairCodes(pairs, fit_codec(embeds, 8, seed=0).encode(embeds)[None])
    index = torch.arange(len(coded))
    drawn = coded.more_sources(index, 3, torch.Generator().manual_seed(0))
    assert drawn.shape == (len(coded), 4) and torch.equal(drawn[:, 0], index)
    assert (coded.target[drawn] == coded.target[:, None]).all()
    number = torch.bincount(coded.target)[coded.target]
    assert ((drawn != index[:, None]).any(dim=1) <= (number > 1)).all()  # a target of only one pair has no other
    assert len(drawn[:, 1:].unique()) > len(coded) / 2
    samples = coded(drawn, torch.zeros(len(coded), dtype=torch.long))
    assert len(samples.sources) == 4 == len(samples.conditions.per_image)
    assert torch.equal(samples.sources[2], coded.codes[0, coded.source[drawn[:, 2]]])
    assert samples.conditions.others[1].displacement == coded.displacement[0, drawn[:, 2]]


def test_training_on_several_sources_ends_in_a_prior_for_one(data, tmp_path):
    validation = run(data, tmp_path, changed(SETTINGS, max_sources=3))
    assert np.isfinite(list(validation.values())).all()
    run(data, tmp_path / "single")
    single = weights(tmp_path / "single")
    assert not all(torch.equal(value, single[name]) for name, value in weights(tmp_path).items())


class Killed(Exception):
    pass


def test_a_pair_counts_by_its_weight(data, tmp_path, monkeypatch):
    losses_of = []
    for weight in (1.0, 0.5):
        found, original = [], PriorTask.loss

        def loss(self, *arguments, found=found, original=original, weight=weight):
            self.pairs["train"].weight = torch.full_like(self.pairs["train"].weight, weight)
            found.append(original(self, *arguments))
            return found[-1]

        with monkeypatch.context() as patch:
            patch.setattr(PriorTask, "loss", loss)
            run(data, tmp_path / str(weight), changed(SETTINGS, max_steps=1))
        losses_of.append(found[0][0].item())
    assert losses_of[1] == pytest.approx(losses_of[0] / 2)


@pytest.mark.parametrize("killed_at", [2, 4])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(data, tmp_path, monkeypatch, killed_at):
    validation = run(data, tmp_path / "straight")
    original = PriorTask.loss

    def loss(self, model, step, *arguments):
        if step == killed_at:
            raise Killed
        return original(self, model, step, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(PriorTask, "loss", loss)
        with pytest.raises(Killed):
            run(data, tmp_path / "killed")
    assert not (tmp_path / "killed" / "prior").exists()
    assert run(data, tmp_path / "killed") == validation
    assert_same(weights(tmp_path / "straight"), weights(tmp_path / "killed"))
    assert not (tmp_path / "killed" / "checkpoint").exists()


OFTEN = changed(SETTINGS, max_steps=12, logging={"every": 1}, checkpoints={"every": 2})


def test_killed_three_times_it_ends_in_the_same_prior(data, tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    touched, draw = count_touches(straight, run, data, straight, OFTEN), random.Random(0)
    for _ in range(3):
        kill(killed, draw.randrange(touched // 6, touched // 3), run, data, killed, OFTEN)
        assert not (killed / "prior").exists()
    assert [path.name for path in (killed / "checkpoint").glob("step-*")]  # it resumes from there
    run(data, killed, OFTEN)
    assert_same(weights(straight), weights(killed))
    assert losses(killed) == losses(straight)
    assert [step for step, _ in losses(killed)] == list(range(1, 13))
    assert not (killed / "checkpoint").exists()


def test_metrics_are_logged_from_the_first_step(data, tmp_path):
    validation = run(data, tmp_path)
    rows = (tmp_path / "live/plots/metrics/gap.time.tsv").read_text().splitlines()
    assert [row.split("\t")[0] for row in rows] == ["step", "0", "3", "6"]
    assert {"val.loss", "val.error_over_copy", "gap.image", "gap.time", "gap.view"} == set(validation)
    assert json.loads((tmp_path / "prior/config.json").read_text())["training"]["validation"] == validation


def test_it_learns_what_a_displacement_does(tmp_path):
    data = write_data(tmp_path, {"train": 600, "val": 200})
    settings = changed(SETTINGS, max_steps=300, batch_size=64, learning_rate=3e-3, validate_every=300)
    validation = run(data, tmp_path, changed(settings, width=64, num_rotations=64))
    assert min(validation[f"gap.{name}"] for name in ("time", "view", "image")) > 1.0
    assert validation["val.error_over_copy"] < 0.2


def test_training_starts_from_a_pretrained_prior(data, tmp_path):
    run(data, tmp_path / "first", changed(SETTINGS, learning_rate=1e-2))
    first = DisplacementPrior.load(tmp_path / "first" / "prior")
    again = changed(SETTINGS, max_steps=1, learning_rate=1e-9, num_components=3, width=16)
    run(data, tmp_path / "second", again, pretrained=tmp_path / "first" / "prior")
    second = DisplacementPrior.load(tmp_path / "second" / "prior")
    assert second.config == first.config  # its own form, not that of the settings
    for name, value in first.state_dict().items():
        assert torch.allclose(second.state_dict()[name], value, atol=1e-6), name


def test_what_is_saved_may_keep_a_share_of_the_start(data, tmp_path):
    start, alone, half = (tmp_path / name for name in ("start", "alone", "half"))
    run(data, start)
    run(data, alone, seed=1, pretrained=start / "prior")
    run(data, half, changed(SETTINGS, start_share=0.25), seed=1, pretrained=start / "prior")
    began, ended, saved = weights(start), weights(alone), weights(half)
    assert any(not torch.equal(began[name], ended[name]) for name in began)
    for name, value in saved.items():
        torch.testing.assert_close(value, 0.25 * began[name] + 0.75 * ended[name])
    described = [json.loads((each / "prior" / "config.json").read_text())["training"] for each in (half, alone)]
    assert described[0]["validation"] != described[1]["validation"]  # the validation is of the saved weights


def test_without_steps_a_pretrained_prior_is_taken_as_it_is(data, tmp_path):
    run(data, tmp_path / "start")
    validation = run(data, tmp_path, changed(SETTINGS, max_steps=0), pretrained=tmp_path / "start" / "prior")
    assert_same(weights(tmp_path / "start"), weights(tmp_path))
    trained = json.loads((tmp_path / "start" / "prior" / "config.json").read_text())["training"]["validation"]
    assert validation["val.loss"] == pytest.approx(trained["val.loss"])
    with pytest.raises(InputError, match="train_prior: max_steps: expected at least 1 from scratch"):
        run(data, tmp_path / "none", changed(SETTINGS, max_steps=0))
    only_val = write_data(tmp_path / "val", {"val": 20})
    run(only_val, tmp_path / "there", changed(SETTINGS, max_steps=0), pretrained=tmp_path / "start" / "prior")


def test_a_pretrained_prior_of_other_embeddings_or_views_is_refused(data, tmp_path):
    run(data, tmp_path)
    expected = r"view_encoding: expected matrix .*, found spherical; .*scratch needs none"
    with pytest.raises(InputError, match=expected):
        run(data, tmp_path, view_encoding="matrix", pretrained=tmp_path / "prior")
    config = json.loads((tmp_path / "prior/config.json").read_text())
    codec = fit_codec(torch.randn(20, TOKENS + 1, WIDTH), 8, seed=0)
    other = DisplacementPrior(replace(PriorConfig(**config["config"]), num_tokens=TOKENS + 1))
    other.codec.load_state_dict(codec.state_dict())
    other.save(tmp_path / "other")
    with pytest.raises(
        InputError, match=r"image embeddings: expected \(5, 8\) of a prior to start from, found \(6, 8\)"
    ):
        run(data, tmp_path, pretrained=tmp_path / "other")


def test_without_validation_pairs_it_trains_all_the_same(tmp_path):
    assert run(write_data(tmp_path, {"train": 24}), tmp_path) == {}
    assert (tmp_path / "prior/prior.safetensors").is_file()


def test_missing_inputs_are_one_clear_line(data, tmp_path):
    with pytest.raises(InputError, match=r"pairs\.parquet: expected a Parquet table"):
        run(tmp_path, tmp_path)
    (tmp_path / "pairs.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(InputError, match=r"pairs\.parquet: expected a Parquet table"):
        run(tmp_path, tmp_path)
    with pytest.raises(InputError, match="expected pairs of split train"):
        run(write_data(tmp_path / "no_train", {"val": 3}), tmp_path)
    (data / "features").rename(tmp_path / "moved")
    try:
        with pytest.raises(InputError, match="expected features of encode_frames"):
            run(data, tmp_path)
    finally:
        (tmp_path / "moved").rename(data / "features")


def test_recoloured_scenes_are_scenes_more_that_turn_the_way_they_are_mirrored(data):
    pairs = read_frame_pairs(data / "pairs.parquet", "train")
    changes = augmentations(mirror=True, recolour=True)
    embeds = FrameEmbeds(pairs.keys, data / "features", changes)
    coded = PairCodes(pairs, embeds.encode(fit_codec(embeds.sample(100, seed=0), 8, seed=0)), changes)
    assert coded.num_variants == 6 and len({tuple(codes.flatten().tolist()) for codes in coded.codes}) == 6
    index = torch.from_numpy(np.flatnonzero(pairs.displacement.has_view))[:, None]
    plain = coded(index, torch.zeros(len(index), dtype=torch.long)).conditions.displacement.azimuth
    for number, change in enumerate(changes):
        azimuth = coded(index, torch.full((len(index),), number)).conditions.displacement.azimuth
        assert plain.any() and torch.equal(azimuth, -plain if change.mirror else plain)


def test_embeddings_are_read_in_parts_and_many_codes_lie_in_a_file(data, tmp_path, monkeypatch):
    run(data, tmp_path / "in_memory")
    read, sizes = FrameEmbeds.read, []
    monkeypatch.setattr(FrameEmbeds, "read", lambda self, v, frames: sizes.append(len(frames)) or read(self, v, frames))
    monkeypatch.setattr(prior_embeds, "PART", 5)
    monkeypatch.setattr(prior_embeds, "MAX_CODES", 0)
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    run(data, tmp_path / "in_a_file", changed(SETTINGS, num_embeds=7))
    assert max(sizes) <= 7 and sizes.count(5) > 3
    codes = prior_embeds.new_codes((2, 3, 4))
    codes[1, 2] = 7.0
    assert codes.sum() == 28 and codes.dtype == torch.float32 and list(folder.iterdir()) == []
    monkeypatch.setattr(prior_embeds, "PART", 512)
    run(data, tmp_path / "again")
    assert_same(weights(tmp_path / "again"), weights(tmp_path / "in_memory"))


def test_recolouring_trains_on_other_scenes(data, tmp_path):
    run(data, tmp_path / "without")
    run(data, tmp_path / "with", augmented=Augmentations(mirror=True, recolour=True))
    weight = "decoder.0.weight"
    assert not torch.equal(weights(tmp_path / "with")[weight], weights(tmp_path / "without")[weight])


def test_mirror_images_must_have_been_encoded(tmp_path):
    data = write_data(tmp_path)
    for path in (data / "features").rglob("*.safetensors"):
        features = {"frame_index": np.arange(NUM_FRAMES, dtype=np.int32)} | {
            name: np.zeros((NUM_FRAMES, 1, 1), np.float16) for name in ("latents", "image_embeds")
        }
        save_file(features, path)
    with pytest.raises(InputError, match=r"mirrored_embeds: expected this tensor"):
        run(data, tmp_path)


def test_a_prior_trained_on_mirror_images_predicts_from_both_sides(data, tmp_path):
    run(data, tmp_path / "with")
    learnt = DisplacementPrior.load(tmp_path / "with" / "prior")
    run(data, tmp_path / "without", augmented=Augmentations(mirror=False, recolour=False))
    assert DisplacementPrior.load(tmp_path / "without" / "prior").mirror is None
    assert learnt.mirror is not None and learnt.config.mirror
    azimuths = np.linspace(0, 2 * np.pi, NUM_CAMERAS, endpoint=False)
    plain, reflected = (
        learnt.codec.encode(torch.from_numpy(np.stack([embeds_at(0, side * a, 0.5) for a in azimuths])).float())
        for side in (1, -1)
    )
    torch.testing.assert_close(learnt.mirror(plain), reflected, atol=0.05, rtol=0.05)


def test_a_mirror_that_does_not_help_is_not_kept(data, tmp_path, monkeypatch):
    shattered = CodeMirror(8)
    shattered.weight.mul_(-3)
    monkeypatch.setattr(train_module, "learn_mirror", lambda *_: shattered)
    run(data, tmp_path)
    assert DisplacementPrior.load(tmp_path / "prior").mirror is None


@pytest.mark.parametrize(("damage", "kept"), [(1.0, True), (-3.0, False)])
def test_a_pretrained_prior_keeps_its_mirror_where_that_helps(data, tmp_path, damage, kept):
    run(data, tmp_path / "first")
    prior = DisplacementPrior.load(tmp_path / "first" / "prior")
    assert prior.mirror is not None
    prior.mirror.weight.mul_(damage)
    prior.save(tmp_path / "changed")
    plain = Augmentations(mirror=False, recolour=False)
    run(data, tmp_path / "second", augmented=plain, pretrained=tmp_path / "changed")
    assert (DisplacementPrior.load(tmp_path / "second" / "prior").mirror is not None) == kept


def test_a_prior_that_is_not_trained_keeps_its_mirror(data, tmp_path):
    run(data, tmp_path / "first")
    plain = Augmentations(mirror=False, recolour=False)
    untrained = changed(SETTINGS, max_steps=0)
    run(data, tmp_path / "second", untrained, plain, pretrained=tmp_path / "first" / "prior")
    assert torch.equal(*(weights(tmp_path / name)["mirror.weight"] for name in ("first", "second")))
