"""The trainer with a minimal task that has only a fingerprint and a loss."""

import json
import os
import signal
from pathlib import Path

import fsspec
import pytest
import torch
from stage_settings import changed
from torch import nn

from fourdistill.training.runtime.preemption import Preempted
from fourdistill.training.runtime.seeds import step_generator
from fourdistill.training.runtime.settings import Checkpointing, Logging, Optimizer
from fourdistill.training.runtime.task import Task
from fourdistill.training.runtime.trainer import Trainer, TrainerSettings

SETTINGS = TrainerSettings(
    seed=3,
    max_steps=6,
    batch_size=4,
    optimizer=Optimizer(1e-2, "cosine", 1, weight_decay=0.01, max_grad_norm=1.0),
    logging=Logging(2, validate_every=100, num_val_pairs=0),
    checkpoints=Checkpointing(2, keep=1, address=None),
)


class Line(Task):
    """Fits a line to random points; `told_at`: the step in which it gets SIGTERM."""

    def __init__(self, told_at: int | None = None):
        super().__init__("line", nn.Linear(1, 1))
        self.told_at, self.seen, self.saved = told_at, [], False
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.fill_(0.5)

    def fingerprint(self):
        return {"task": "line"}

    def loss(self, model, step, micro_batch, generator):
        if step == self.told_at:
            os.kill(os.getpid(), signal.SIGTERM)
        self.seen.append((step, micro_batch))
        x = torch.randn(2, 1, generator=generator)
        return (model(x) + x).square().mean(), {"first": x[0].item()}

    def save(self, validation):
        self.saved = True

    def weights(self):
        return torch.cat([parameter.detach().flatten() for parameter in self.model.parameters()])


def fit(folder: Path, task: Line, settings=SETTINGS, address: str | None = None) -> Line:
    folders = {"live_folder": folder / "live", "checkpoint_folder": folder / "checkpoint"}
    Trainer(changed(settings, address=address), **folders).fit(task)
    return task


def logged(folder: Path, name: str) -> list[list[str]]:
    rows = (folder / "live" / "plots" / "metrics" / f"train.{name}.tsv").read_text().splitlines()[1:]
    return [row.split("\t") for row in rows]


def test_draws_follow_from_seed_step_and_micro_batch_alone():
    assert step_generator(2, 7).initial_seed() == 2_000_013
    assert step_generator(2, 7, 1, 4).initial_seed() == 2 * 1_000_003 + 7 * 4 + 1
    seeds = {step_generator(0, step, micro_batch, 3).initial_seed() for step in range(5) for micro_batch in range(3)}
    assert len(seeds) == 15


def test_it_trains_logs_and_leaves_no_checkpoint(tmp_path):
    task = fit(tmp_path, Line())
    assert task.seen == [(step, 0) for step in range(6)] and task.saved
    assert (task.weights() != 0.5).all() and not (tmp_path / "checkpoint").exists()
    assert [row[0] for row in logged(tmp_path, "loss")] == ["2", "4", "6"]
    draws = [torch.randn(2, 1, generator=step_generator(3, step))[0].item() for step in range(2)]
    assert float(logged(tmp_path, "first")[0][1]) == pytest.approx(sum(draws) / 2)
    assert not (tmp_path / "live" / "train_report.json").exists()  # the task has no report


@pytest.mark.parametrize("change", [{}, {"ema_decay": 0.9}, {"micro_batches": 2}, {"logging": {"every": 3}}])
def test_told_to_go_it_saves_and_goes_on_elsewhere_as_if_nothing_had_happened(tmp_path, change):
    fsspec.filesystem("memory").store.clear()
    settings = changed(SETTINGS, **change)
    straight = fit(tmp_path / "straight", Line(), settings)
    first, second = Line(told_at=2), Line()
    with pytest.raises(Preempted):
        fit(tmp_path / "first", first, settings, "memory://bucket/run")
    assert {step for step, _ in first.seen} == {0, 1, 2} and not first.saved
    fit(tmp_path / "second", second, settings, "memory://bucket/run")
    assert first.seen + second.seen == straight.seen and second.saved
    assert torch.equal(second.weights(), straight.weights())
    assert [row[0] for row in logged(tmp_path / "second", "loss")] == [
        row[0] for row in logged(tmp_path / "straight", "loss")
    ]
    means = [[float(row[1]) for row in logged(tmp_path / name, "loss")] for name in ("second", "straight")]
    assert means[0] == pytest.approx(means[1], rel=1e-6)


def test_micro_batches_add_up_to_their_mean(tmp_path):
    task = fit(tmp_path, Line(), changed(SETTINGS, max_steps=1, micro_batches=2, weight_decay=0.0, keep_last=True))
    assert task.seen == [(0, 0), (0, 1)]
    expected = Line().model
    x = torch.cat([torch.randn(2, 1, generator=step_generator(3, 0, part, 2)) for part in range(2)])
    (expected(x) + x).square().mean().backward()
    grads = torch.cat([p.grad.flatten() for p in expected.parameters() if p.grad is not None])
    state = torch.load(tmp_path / "checkpoint" / "step-00000001" / "optimizer.bin", weights_only=True)["state"]
    scale = min(1.0, SETTINGS.optimizer.max_grad_norm / grads.norm().item())
    moments = torch.cat([state[i]["exp_avg"].flatten() for i in range(2)])
    torch.testing.assert_close(moments, 0.1 * scale * grads, rtol=1e-4, atol=1e-6)


def test_the_average_is_kept_as_weights_and_not_as_a_pickle(tmp_path):
    fit(tmp_path, Line(), changed(SETTINGS, ema_decay=0.9, keep_last=True))
    checkpoint = tmp_path / "checkpoint" / "step-00000006"
    names = {path.name for path in checkpoint.iterdir()}
    assert {"model.safetensors", "model_1.safetensors"} < names and not any("custom" in name for name in names)
    assert json.loads((checkpoint / "trainer.json").read_text())["report"]["restarts"] == 0
