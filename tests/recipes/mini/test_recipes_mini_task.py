"""A killed training of the base resumes with identical results."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "recipes" / "mini"))

from task import fit


class Killed(Exception):
    """Simulates the kill signal."""


def train(
    folder: Path, *, killed_at: int | None = None, belongs_to: str = "these params", ema_decay: float | None = 0.9
) -> tuple[torch.Tensor, list[int]]:
    torch.manual_seed(0)
    model, seen = torch.nn.Linear(3, 3), []

    def draw(step, generator):
        if step == killed_at:
            raise Killed
        seen.append(step)
        return torch.randn(4, 3, generator=generator), torch.tensor(step)

    def compute_loss(model, x, step):
        return (model(x) - x).square().mean(), {"step": step.item()}

    trained: Any = fit(
        model, draw, compute_loss, folder, steps=8, batch_size=4, learning_rate=1e-2, seed=0, warmup_steps=1,
        ema_decay=ema_decay, log_every=2, save_every=2, belongs_to=belongs_to,
    )  # fmt: skip
    return trained.weight.detach(), seen


def test_a_killed_run_ends_with_the_same_weights(tmp_path):
    straight, _ = train(tmp_path / "straight")
    with pytest.raises(Killed):
        train(tmp_path / "killed", killed_at=5)
    resumed, seen = train(tmp_path / "killed")
    assert seen == [4, 5, 6, 7]
    assert torch.equal(resumed, straight)


def test_a_state_of_other_parameters_is_not_taken(tmp_path):
    train(tmp_path, belongs_to="other params")
    _, seen = train(tmp_path)
    assert seen == list(range(8))


def test_what_is_finished_is_not_trained_again(tmp_path):
    straight, _ = train(tmp_path)
    again, seen = train(tmp_path)
    assert seen == [] and torch.equal(again, straight)


def test_the_result_is_the_average_of_the_weights(tmp_path):
    averaged, _ = train(tmp_path / "averaged")
    last, _ = train(tmp_path / "last", ema_decay=None)
    assert not torch.equal(averaged, last)


def test_figures_of_a_step_are_logged_as_means(tmp_path):
    train(tmp_path)
    rows = (tmp_path / "dvclive/plots/metrics/train.step.tsv").read_text().splitlines()
    assert [tuple(map(float, row.split("\t"))) for row in rows[1:]] == [(2, 0.5), (4, 2.5), (6, 4.5), (8, 6.5)]
