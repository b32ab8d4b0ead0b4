"""Checkpoints: how many are kept, locally and at addresses, and which are never loaded."""

from pathlib import Path

import fsspec
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from fourdistill.errors import InputError
from fourdistill.training.runtime.checkpoint import Checkpoints


@pytest.fixture
def accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=True)


@pytest.fixture
def model(accelerator):
    return accelerator.prepare(nn.Linear(2, 2))


@pytest.fixture
def address():
    fsspec.filesystem("memory").store.clear()
    return "memory://bucket/run"


def checkpoints(folder: Path, address=None, keep=2, facts="this run") -> Checkpoints:
    return Checkpoints(folder / "checkpoint", folder / "live", {"facts": facts}, keep, address)


def save(these: Checkpoints, accelerator, model, step: int) -> None:
    with torch.no_grad():
        model.weight.fill_(step)
    these.save(accelerator, step, {"step": step})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoint").iterdir())


def test_the_newest_are_kept_here_and_there(accelerator, model, tmp_path, address):
    (tmp_path / "live").mkdir()
    (tmp_path / "live" / "metrics.json").write_text("{}")
    these = checkpoints(tmp_path, address)
    for step in (1, 2, 3):
        save(these, accelerator, model, step)
    assert names(tmp_path) == ["step-00000002", "step-00000003"]
    assert these.remote is not None and these.remote.names() == ["step-00000002", "step-00000003"]
    these.clear()
    assert these.remote.names() == [] and not (tmp_path / "checkpoint").exists()


def test_a_second_machine_takes_the_step_of_this_run_not_its_own_of_another(
    accelerator, model, tmp_path, address, monkeypatch
):
    save(checkpoints(tmp_path / "second", facts="another run"), accelerator, model, 7)
    older = tmp_path / "second" / "checkpoint"
    (older / "step-00000007").rename(older / "step-00000002")
    save(checkpoints(tmp_path / "first", address), accelerator, model, 2)
    monkeypatch.setattr(Accelerator, "is_main_process", False)
    monkeypatch.setattr(
        "fourdistill.training.runtime.checkpoint.broadcast_object_list", lambda found: ["step-00000002"]
    )
    step, kept = checkpoints(tmp_path / "second", address).resume(accelerator)
    assert (step, kept) == (2, {"step": 2}) and (model.weight == 2).all()


def test_another_machine_goes_on_from_the_address(accelerator, model, tmp_path, address):
    (tmp_path / "live").mkdir()
    (tmp_path / "live" / "metrics.json").write_text("{}")
    save(checkpoints(tmp_path, address), accelerator, model, 5)
    with torch.no_grad():
        model.weight.zero_()
    elsewhere = tmp_path / "elsewhere"
    these = checkpoints(elsewhere, address)
    assert these.restore_live() and (elsewhere / "live" / "metrics.json").read_text() == "{}"
    assert these.resume(accelerator) == (5, {"step": 5})
    assert torch.equal(model.weight, torch.full((2, 2), 5.0))


def test_an_upload_that_was_cut_off_does_not_count(accelerator, model, tmp_path, address):
    save(checkpoints(tmp_path, address), accelerator, model, 1)
    save(checkpoints(tmp_path, address), accelerator, model, 2)
    these = checkpoints(tmp_path, address)
    assert these.remote is not None
    fsspec.filesystem("memory").rm(f"{these.remote.root}/step-00000002/fingerprint.json")
    assert checkpoints(tmp_path / "elsewhere", address).resume(accelerator) == (1, {"step": 1})


def test_those_of_another_run_are_removed_here_and_left_alone_there(accelerator, model, tmp_path, address):
    first = checkpoints(tmp_path, address)
    save(first, accelerator, model, 1)
    these = checkpoints(tmp_path, address, facts="another run")
    assert these.resume(accelerator) == (0, {})
    assert names(tmp_path) == [] and these.remote is not None and these.remote.names() == []
    these.clear()
    assert first.remote is not None and first.remote.names() == ["step-00000001"]


def test_a_folder_without_a_fingerprint_is_of_another_run(accelerator, model, tmp_path):
    (tmp_path / "checkpoint" / "step-00000009").mkdir(parents=True)
    these = checkpoints(tmp_path)
    assert these.newest() is None and names(tmp_path) == []
    save(these, accelerator, model, 1)
    assert these.newest() == tmp_path / "checkpoint" / "step-00000001"


def test_a_name_at_the_address_leads_nowhere_else(accelerator, model, tmp_path, address):
    save(checkpoints(tmp_path, address), accelerator, model, 1)
    remote = checkpoints(tmp_path, address).remote
    assert remote is not None
    store = fsspec.filesystem("memory").store
    store[f"{remote.root}/step-00000001/../../../x"] = store[f"{remote.root}/step-00000001/fingerprint.json"]
    with pytest.raises(InputError, match="expected a name inside of the checkpoint"):
        checkpoints(tmp_path / "elsewhere", address).newest()
    assert not (tmp_path / "x").exists()


def test_a_pickle_that_would_run_something_is_not_loaded(accelerator, tmp_path):
    linear = nn.Linear(2, 2)
    accelerator.prepare(linear, torch.optim.AdamW(linear.parameters()))
    these = checkpoints(tmp_path)
    save(these, accelerator, linear, 1)
    marker = tmp_path / "ran"

    class Malice:
        def __reduce__(self):
            return Path.touch, (marker,)

    torch.save(Malice(), tmp_path / "checkpoint" / "step-00000001" / "optimizer.bin")
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        these.resume(accelerator)
    assert not marker.exists()
