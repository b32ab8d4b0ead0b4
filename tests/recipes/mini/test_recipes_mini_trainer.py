"""A killed training of the base goes on as if nothing had happened."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "recipes" / "mini"))

from trainer import fit


class Killed(Exception):
    """Stands for the signal."""


def train(
    folder: Path, *, killed_at: int | None = None, belongs_to: str = "these params"
) -> tuple[torch.Tensor, list[int]]:
    torch.manual_seed(0)
    model, seen = torch.nn.Linear(3, 3), []

    def compute_loss(model, step, generator):
        if step == killed_at:
            raise Killed
        seen.append(step)
        x = torch.randn(4, 3, generator=generator)
        return (model(x) - x).square().mean(), {}

    trained: Any = fit(
        model, compute_loss, folder, steps=8, learning_rate=1e-2, seed=0, warmup_steps=1, ema_decay=0.9,
        log_every=2, save_every=2, belongs_to=belongs_to,
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


@pytest.mark.parametrize("name", ["state.new", "state.old"])
def test_a_kill_between_the_renames_loses_nothing(tmp_path, name):
    straight, _ = train(tmp_path / "straight")
    with pytest.raises(Killed):
        train(tmp_path / "killed", killed_at=5)
    (tmp_path / "killed" / "state").rename(tmp_path / "killed" / name)
    resumed, seen = train(tmp_path / "killed")
    assert seen == [4, 5, 6, 7]
    assert torch.equal(resumed, straight)
