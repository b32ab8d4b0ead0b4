"""Checkpoints of a running training, so that a killed run goes on when the same command is given again.

    <folder>/step-00000500/    accelerate's state (weights as safetensors), fingerprint.json, live/ (the logs so far)

A checkpoint is written under a temporary name and renamed when complete. It belongs to one fingerprint (settings, data,
base): another run in the same place starts afresh.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

FINGERPRINT_NAME, LIVE_NAME = "fingerprint.json", "live"


class Checkpoints:
    """The newest checkpoint of one run.

    Args:
        folder: where checkpoints are kept; nothing else may be in it.
        live_folder: the logs, kept along so that a resumed run continues them.
        fingerprint: JSON values that decide whether a checkpoint is this run's.
    """

    def __init__(self, folder: Path, live_folder: Path, fingerprint: dict[str, Any]):
        self.folder, self.live_folder = folder, live_folder
        self.fingerprint = json.dumps(fingerprint, indent=2, sort_keys=True, default=str)

    def newest(self) -> Path | None:
        """The newest complete checkpoint of this run; those of other runs are removed."""
        for path in sorted(self.folder.glob("step-*"), reverse=True):
            if (path / FINGERPRINT_NAME).read_text(encoding="utf-8") == self.fingerprint:
                return path
            shutil.rmtree(path)
        return None

    def save(self, accelerator: Accelerator, step: int) -> None:
        """Write the state after `step` steps, then remove older checkpoints."""
        temporary = self.folder / ".incomplete"
        if accelerator.is_main_process:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(temporary))
        accelerator.wait_for_everyone()
        if not accelerator.is_main_process:
            return
        (temporary / FINGERPRINT_NAME).write_text(self.fingerprint, encoding="utf-8")
        if self.live_folder.exists():
            shutil.copytree(self.live_folder, temporary / LIVE_NAME)
        older = list(self.folder.glob("step-*"))
        final = self.folder / f"step-{step:08d}"
        if final in older:  # the same state again, from a run that was killed right after its rename
            shutil.rmtree(final)
            older.remove(final)
        temporary.rename(final)
        for path in older:
            shutil.rmtree(path)

    def resume(self, accelerator: Accelerator) -> int:
        """Load the newest checkpoint into what `accelerator` has prepared; returns its step, 0 for a new run."""
        path = self.newest()
        if path is None:
            return 0
        accelerator.load_state(str(path))
        return int(path.name.removeprefix("step-"))

    def restore_live(self) -> bool:
        """Put the checkpoint's logs back before the tracker opens them; whether there were any."""
        path = self.newest()
        if path is None or not (path / LIVE_NAME).is_dir():
            return False
        shutil.rmtree(self.live_folder, ignore_errors=True)
        shutil.copytree(path / LIVE_NAME, self.live_folder)
        return True

    def clear(self) -> None:
        """Remove the folder; called when the adapter has been saved."""
        shutil.rmtree(self.folder, ignore_errors=True)


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def weights_hash(module: nn.Module) -> str:
    """SHA-256 over all parameters and buffers, in the order of the state dict."""
    digest = hashlib.sha256()
    for value in module.state_dict().values():
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
