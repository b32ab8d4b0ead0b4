"""A pipeline as a folder: diffusers' layout of its base, and the adapter in `adapter/`."""

import inspect
import re
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from fourdistill.errors import InputError
from fourdistill.models.adapter import WEIGHTS_NAME, Adapter
from fourdistill.models.folder import CONFIG_NAME
from fourdistill.models.lora import plain_layers

ADAPTER, INDEX = "adapter", "model_index.json"
_HUB_OPTIONS = ("token", "cache_dir", "local_files_only", "force_download")


def find_adapter(base: str, adapter: str | None, **loading: Any) -> Path:
    """The folder of an adapter, fetched from the Hub where it is `owner/repo` or `owner/repo/folder`.

    Without one named it is `adapter/` of the base. `loading` is as for the base (see `load_base`): what of it concerns
    the Hub holds for the adapter, too, but for the `revision`, which another repository does not have. Raises
    `InputError`.
    """
    name = adapter or f"{base.rstrip('/')}/{ADAPTER}"
    if Path(name).is_dir():
        return Path(name)
    if adapter is None and Path(base).exists():
        raise InputError(f"{base}: expected an adapter beside it, or a folder with {ADAPTER}/ in it")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(/[\w.-]+)*", name) or Path(name).parent.is_dir():
        raise InputError(f"{name}: expected an adapter's folder, or owner/repo on the Hub")
    owner, repo, *folder = name.split("/")
    inside = "/".join(folder)
    wanted = [f"{inside}/{file}".removeprefix("/") for file in (CONFIG_NAME, WEIGHTS_NAME)]
    try:
        known = _HUB_OPTIONS if adapter else (*_HUB_OPTIONS, "revision")
        options = {key: value for key, value in loading.items() if key in known}
        return Path(snapshot_download(f"{owner}/{repo}", allow_patterns=wanted, **options)) / inside
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{name}: expected an adapter's folder, or one on the Hub: {reason}") from error


def save_parts(pipe: DiffusionPipeline, folder: Path, push_to_hub: bool = False, **saving: Any) -> None:
    """Write every part of a pipeline into a folder of its own, the index last, which makes it complete."""
    if push_to_hub:
        repo_id = saving.pop("repo_id", folder.name)
        pipe.push_to_hub(repo_id, **saving)
        return
    if not saving.setdefault("safe_serialization", True):
        raise InputError("safe_serialization: expected True: weights are saved as safetensors")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INDEX).unlink(missing_ok=True)
    parts: dict[str, Any] = dict(pipe.components)
    adapter: Adapter = parts.pop(ADAPTER)
    adapter.save(folder / ADAPTER, adapter.config.training)
    with plain_layers(parts["unet"]):
        for name, part in parts.items():
            known = inspect.signature(part.save_pretrained).parameters
            options = {"save_peft_format": False} | saving
            part.save_pretrained(folder / name, **{key: value for key, value in options.items() if key in known})
    pipe.save_config(folder)
