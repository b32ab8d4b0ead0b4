"""Locating a base, its image encoder and its IP-Adapter: local folders, or fetched once from the Hub."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fourdistill.errors import InputError
from fourdistill.models.base.checkpoint_kinds import WHOLE, WHOLE_XL, describe
from fourdistill.models.base.folder import (
    INDEX,
    KIND,
    STEMS,
    check_base_folder,
    check_kind,
    choose_parts,
    describe_folder,
    is_xl,
    read_json,
)
from fourdistill.models.base.hub import fetch_files, list_files, split_name
from fourdistill.models.base.weight_files import check_safetensors, choose_weights, describe_file, read_shapes

_ENCODERS = ("clip_vision_model", "clip")  # model types from which a CLIPVisionModelWithProjection can be loaded
_BASE = f"a model folder in diffusers' layout ({KIND})"
_ENCODER = "a CLIP image encoder's folder"
_NEEDS_CONFIG = (
    f"expected a folder with the {INDEX}, configurations and tokenizer of the model, in diffusers' layout and without "
    "weights, beside the checkpoint in one file"
)
_SMALL = ["*.json", "tokenizer/*", "tokenizer_2/*"]  # all but weights


@dataclass(frozen=True)
class Found:
    """The folder of one model, and the variant of its weights to load."""

    folder: Path
    variant: str | None


@dataclass(frozen=True)
class FoundBase:
    """A base's folder of configurations and weights, or of configurations alone beside weights in one file."""

    folder: Path
    parts: set[str]
    variants: dict[str, str | None]
    """The variant to load of each part with weights; none where these are in `checkpoint`."""
    checkpoint: Path | None = None


def find_base(base: str, variant: str | None, config: str | None = None, **hub: Any) -> FoundBase:
    """What to load of a base: a folder, a Hub id, or a checkpoint in one file with the folder `config`.

    A base on the Hub is checked by its configurations before weights are fetched. Raises `InputError`.
    """
    folder = Path(base)
    if not base.strip():
        raise InputError(f"base: expected {_BASE}, or a Hub id, found an empty name")
    if folder.is_file():
        return _find_single_file(folder, config)
    if config is not None:
        raise InputError(f"config: expected none beside {base}, which is no checkpoint in one file")
    if not folder.is_dir():
        repo, inside = split_name(base, f"{_BASE}, or a Hub id")
        if inside:
            raise InputError(f"{base}: expected {_BASE}, or owner/repo on the Hub")
        folder = fetch_files(repo, _SMALL, _BASE, base, **hub)
        parts = check_kind(folder, base)
        chosen = choose_parts(parts, list_files(repo, folder, **hub), base, variant)
        files = [f"{part}/{name}" for part, (_, names) in chosen.items() for name in names]
        folder = fetch_files(repo, [*_SMALL, *files], _BASE, base, **hub)
    parts, variants = check_base_folder(folder, base, variant)
    return FoundBase(folder, parts, variants)


def _find_single_file(path: Path, config: str | None) -> FoundBase:
    """A whole checkpoint in one file; its configurations are in `config`, or in the folder where it lies."""
    if describe_file(path) != "safetensors" or not (kind := describe(read_shapes(path))).startswith(WHOLE):
        raise InputError(
            f"{path}: expected {_BASE}, or {WHOLE} one in one .safetensors, found {describe_checkpoint(path)}"
        )
    folder = path.parent if config is None else Path(config)
    if not (folder / INDEX).is_file():
        raise InputError(f"{path}: config: {_NEEDS_CONFIG}; there is none in {folder}")
    parts = check_kind(folder, str(folder))
    if is_xl(parts) != (kind == WHOLE_XL):
        raise InputError(f"{path}: config: expected that of {kind}, found another in {folder}")
    return FoundBase(folder, parts - {"image_encoder"}, {}, path)


def describe_checkpoint(path: Path) -> str:
    """Describe a file by its first bytes, and by its weights' names if they can be read without running code."""
    found = describe_file(path)
    return f"a file, {describe(read_shapes(path)) if found == 'safetensors' else found}"


def find_image_encoder(
    found: FoundBase,
    base: str,
    named: str | None,
    checkpoint: str | Path | None,
    variant: str | None,
    **hub: Any,
) -> Found | None:
    """The `named` image encoder, None if the base has one, or `image_encoder/` in the base or by its IP-Adapter."""
    if named is None and "image_encoder" in found.variants:
        return None
    if named is None:
        beside = [found.folder / "image_encoder", found.folder / "ip_adapter" / "image_encoder"]
        if checkpoint is not None:
            beside.insert(0, Path(checkpoint).parent / "image_encoder")
        there = [folder for folder in beside if folder.is_dir()]
        if there or (checkpoint is not None and not Path(checkpoint).is_file()):
            named = (there or beside)[0].as_posix()
    if named is None:
        raise InputError(f"{base}: image_encoder: expected a CLIP image encoder in the model or beside its IP-Adapter")
    folder = Path(named)
    if not named.strip():
        raise InputError(f"image_encoder: expected {_ENCODER}, found an empty name")
    if not folder.is_dir():
        repo, inside = split_name(named, f"{_ENCODER}, or owner/repo/folder on the Hub")
        prefix = f"{inside}/" if inside else ""
        options = _options(repo, base, hub)
        whole = fetch_files(repo, [f"{prefix}config.json"], _ENCODER, named, **options)
        names = {name.removeprefix(prefix) for name in list_files(repo, whole, **options) if name.startswith(prefix)}
        _, files = _choose(names, named, variant)
        wanted = [f"{prefix}{name}" for name in ("config.json", *files)]
        folder = fetch_files(repo, wanted, _ENCODER, named, **options) / inside
    return _check_encoder(folder, named, variant)


def _options(repo: str, base: str, hub: dict[str, Any]) -> dict[str, Any]:
    """The Hub options for a repository: `revision` applies only to the base's repository."""
    return {name: value for name, value in hub.items() if name != "revision" or repo == base}


def _check_encoder(folder: Path, name: str, variant: str | None) -> Found:
    """Raise `InputError` if a folder does not contain a complete CLIP image encoder."""
    if not (folder / "config.json").is_file():
        raise InputError(f"{name}: expected {_ENCODER}, found {describe_folder(folder)}")
    if read_json(folder / "config.json", name).get("model_type") not in _ENCODERS:
        raise InputError(f"{name}: expected {_ENCODER}, found {describe_folder(folder)}")
    chosen, files = _choose({path.name for path in folder.iterdir()}, name, variant)
    for file in files:
        if file.endswith(".safetensors"):
            check_safetensors(folder / file)
    return Found(folder, chosen)


def _choose(names: set[str], name: str, variant: str | None) -> tuple[str | None, list[str]]:
    try:
        return choose_weights(names, STEMS["image_encoder"], variant)
    except InputError as error:
        raise InputError(f"{name}: expected {_ENCODER}: {error}") from error


def find_checkpoint(found: FoundBase, base: str, ip_adapter: str | None, **hub: Any) -> Path:
    """The file of an IP-Adapter: a local one, `owner/repo/folder/file` on the Hub, or the one shipped with the base."""
    if ip_adapter is None:
        files = own_checkpoints(found)
        if len(files) != 1:
            folder = found.folder / "ip_adapter"
            raise InputError(f"{folder}: expected one IP-Adapter checkpoint, found {len(files)} .safetensors")
        return files[0]
    path, expected = Path(ip_adapter), "an IP-Adapter checkpoint"
    if path.is_file():
        return path
    if path.is_dir():
        raise InputError(f"{ip_adapter}: expected {expected}, found a folder: name a file")
    repo, inside = split_name(ip_adapter, expected)
    if not inside:
        raise InputError(f"{ip_adapter}: expected {expected}, there is no such file")
    fetched = fetch_files(repo, [inside], expected, ip_adapter, **_options(repo, base, hub)) / inside
    if not fetched.is_file():
        raise InputError(f"{ip_adapter}: expected {expected}, there is no such file in {repo}")
    return fetched


def own_checkpoints(found: FoundBase) -> list[Path]:
    """The IP-Adapters in a base's folder."""
    files = (found.folder / "ip_adapter").glob("*")
    return sorted(path for path in files if path.suffix.lower() == ".safetensors")
