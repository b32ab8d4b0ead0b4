"""Checkpoints of a training, so that a killed run resumes when the same command is given again.

    <folder>/step-00000500/    accelerate's state, trainer.json, live/ (the logs so far), fingerprint.json

A checkpoint is written under a temporary name and renamed when complete. The newest ones are kept, locally and, if
given, at an fsspec address. A checkpoint belongs to one fingerprint (settings, data, base): another run in the same
place starts from scratch. The step number also determines the position in the data and all random draws.

Trust: a checkpoint is this project's own output and must be protected like its code. Weights are safetensors;
accelerate stores optimizer, scheduler, loss scale and generators as pickles, which it reads with `weights_only=True`,
so they can hold numbers but not run code. No object with a custom pickle is registered.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from fourdistill.training.runtime.remote import RemoteCheckpoints

FINGERPRINT_NAME, LIVE_NAME, KEPT_NAME, INCOMPLETE = "fingerprint.json", "live", "trainer.json", ".incomplete"


class Checkpoints:
    """The newest checkpoints of one run. Every process has an instance; only the main process writes and removes.

    Args:
        folder: where checkpoints are kept; must contain nothing else.
        live_folder: the logs, saved too so that a resumed run continues them.
        fingerprint: JSON values that decide whether a checkpoint is this run's.
        keep: number of checkpoints to keep.
        address: an fsspec address to which they are copied too, or None.
    """

    def __init__(
        self, folder: Path, live_folder: Path, fingerprint: dict[str, Any], keep: int = 1, address: str | None = None
    ):
        self.folder, self.live_folder, self.keep = folder, live_folder, keep
        self.fingerprint = json.dumps(fingerprint, indent=2, sort_keys=True, default=str)
        # A separate folder at the address: other runs may use the same address.
        run = hashlib.sha256(self.fingerprint.encode()).hexdigest()[:16]
        self.remote = RemoteCheckpoints(f"{address.rstrip('/')}/{run}", FINGERPRINT_NAME) if address else None

    def newest(self) -> Path | None:
        """The newest complete checkpoint of this run, fetched if remote; removes those of other runs."""
        self._drop_others()
        local = [path.name for path in self._local()]
        if self.remote:
            names = self.remote.names()
            if names and names[-1] > max(local, default=""):
                self._fetch(names[-1])
                local.append(names[-1])
        return self.folder / max(local) if local else None

    def save(self, accelerator: Accelerator, step: int, keep: dict[str, Any]) -> None:
        """Write the state after `step` steps and the JSON values `keep`, then remove the oldest checkpoints."""
        temporary = self.folder / INCOMPLETE
        if accelerator.is_main_process:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(temporary))
        accelerator.wait_for_everyone()
        if not accelerator.is_main_process:
            return
        (temporary / KEPT_NAME).write_text(json.dumps(keep), encoding="utf-8")
        if self.live_folder.exists():
            shutil.copytree(self.live_folder, temporary / LIVE_NAME)
        (temporary / FINGERPRINT_NAME).write_text(self.fingerprint, encoding="utf-8")
        final = self.folder / f"step-{step:08d}"
        if final.exists():  # the same state again, from a run that was killed right after its rename
            discard(final)
        temporary.rename(final)
        for path in self._local()[: -self.keep]:
            discard(path)
        if self.remote:
            self.remote.put(final)
            for name in self.remote.names()[: -self.keep]:
                self.remote.remove(name)

    def resume(self, accelerator: Accelerator) -> tuple[int, dict[str, Any]]:
        """Load the newest checkpoint into the prepared objects; return its step and JSON values, or (0, {}).

        The main process chooses the checkpoint; machines with separate disks fetch it from the address.
        """
        found = self.newest() if accelerator.is_main_process else None
        name = broadcast_object_list([None if found is None else found.name])[0]
        if name is None:
            return 0, {}
        path = self.folder / name
        if accelerator.is_local_main_process and self.remote:
            self._drop_others()  # another run may have left a step of this name on this machine's disk
            if not path.exists():
                self._fetch(name)
        accelerator.wait_for_everyone()
        accelerator.load_state(str(path))
        accelerator.step = 0  # counts micro-batches within a step; the saving run may have had fewer per process
        return int(name.removeprefix("step-")), json.loads((path / KEPT_NAME).read_text(encoding="utf-8"))

    def restore_live(self) -> bool:
        """Restore the checkpoint's logs before the tracker opens them; return whether there were any."""
        path = self.newest()
        if path is None or not (path / LIVE_NAME).is_dir():
            return False
        shutil.rmtree(self.live_folder, ignore_errors=True)
        shutil.copytree(path / LIVE_NAME, self.live_folder)
        return True

    def clear(self) -> None:
        """Remove all checkpoints; called when the result has been saved."""
        for path in self._local():
            discard(path)
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.remote:
            for name in self.remote.names():
                self.remote.remove(name)

    def _drop_others(self) -> None:
        """Remove other runs' checkpoints from this machine."""
        for path in self._local():
            written = path / FINGERPRINT_NAME
            if not written.is_file() or written.read_text(encoding="utf-8") != self.fingerprint:
                discard(path)

    def _local(self) -> list[Path]:
        """The complete checkpoints of this machine, oldest first."""
        return sorted(self.folder.glob("step-*"))

    def _fetch(self, name: str) -> None:
        """Copy a checkpoint from the address to this machine, atomically."""
        assert self.remote is not None
        temporary = self.folder / INCOMPLETE
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        self.remote.get(name, temporary)
        temporary.rename(self.folder / name)


def discard(checkpoint: Path) -> None:
    """Remove a checkpoint; if interrupted, the remainder does not look like a checkpoint."""
    gone = checkpoint.with_name(f".gone-{checkpoint.name}")
    shutil.rmtree(gone, ignore_errors=True)
    checkpoint.rename(gone)
    shutil.rmtree(gone)
