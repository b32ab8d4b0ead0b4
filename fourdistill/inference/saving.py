"""A pipeline as a folder: the base in diffusers' layout, and the adapter in `adapter/`."""

import inspect
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline

from fourdistill.errors import InputError
from fourdistill.models.adapter import WEIGHTS_NAME, Adapter
from fourdistill.models.base.find import describe_checkpoint
from fourdistill.models.base.hub import OPTIONS, fetch_files, split_name
from fourdistill.models.folder import CONFIG_NAME

ADAPTER, INDEX = "adapter", "model_index.json"


def find_adapter(base: str, adapter: str | None, **loading: Any) -> Path:
    """The folder of an adapter, fetched from the Hub if it is `owner/repo` or `owner/repo/folder`.

    If `adapter` is None, it is `adapter/` of the base. `loading` is as for the base (see `load_base`). Its Hub options
    also apply to the adapter, except `revision` if the adapter is in another repository. Raises `InputError`.
    """
    name = f"{base.rstrip('/')}/{ADAPTER}" if adapter is None else adapter
    if Path(name).is_dir():
        return Path(name)
    if Path(name).is_file():
        raise InputError(f"{name}: expected an adapter's folder, found {describe_checkpoint(Path(name))}")
    if adapter is None and Path(base).exists():
        raise InputError(f"{base}: expected an adapter beside it, or a folder with {ADAPTER}/ in it")
    repo, inside = split_name(name, "an adapter's folder, or owner/repo on the Hub")
    wanted = [f"{inside}/{file}".removeprefix("/") for file in (CONFIG_NAME, WEIGHTS_NAME)]
    known = set(OPTIONS) - ({"revision"} if adapter else set())
    options = {key: value for key, value in loading.items() if key in known}
    return fetch_files(repo, wanted, "an adapter's folder", name, **options) / inside


def save_parts(pipe: DiffusionPipeline, folder: Path, push_to_hub: bool = False, **saving: Any) -> None:
    """Write every part of a pipeline into its own folder. The index comes last and marks completion."""
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
    for name, part in ((name, part) for name, part in parts.items() if part is not None):
        known = inspect.signature(part.save_pretrained).parameters
        part.save_pretrained(folder / name, **{key: value for key, value in saving.items() if key in known})
    pipe.save_config(folder)
