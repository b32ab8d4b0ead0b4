"""Checks of a base's folder before loading: whether it is of the expected kind, and which files to load."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from fourdistill.errors import InputError
from fourdistill.models.base.weight_files import check_safetensors, choose_weights

INDEX = "model_index.json"
KIND = "Stable Diffusion 1.x, 2.x or XL"
EXPECTED = "expected a base in diffusers' Stable Diffusion layout"
# The parts of a base: their classes, and the stem of the weight files of those with weights.
CLASSES = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "scheduler": None,  # any
}
XL_CLASSES = {"text_encoder_2": ("CLIPTextModelWithProjection",), "tokenizer_2": CLASSES["tokenizer"]}  # of SDXL, too
OPTIONAL = {"image_encoder": ("CLIPVisionModelWithProjection",), "feature_extractor": None}
IGNORED = {"safety_checker", "controlnet", "adapter"}  # other folders allowed in a base's folder
STEMS = {
    "unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model",
    "text_encoder_2": "model", "image_encoder": "model",
}  # fmt: skip
_INPUTS = {"class_embed_type": None, "encoder_hid_dim_type": None}  # null if the U-Net reads nothing else
_NUM_SIZES = 6  # that SDXL's U-Net is told: height and width before and after resizing, and where it was cropped


def is_xl(parts: Collection[str]) -> bool:
    """Whether parts are those of SDXL."""
    return "text_encoder_2" in parts


def check_kind(folder: Path, base: str) -> set[str]:
    """Return the parts of a base by its folder's configurations; raises `InputError` naming the base if it is none."""
    if not (folder / INDEX).is_file():
        raise InputError(f"{base}: {INDEX}: expected a model in diffusers' layout, found {describe_folder(folder)}")
    index = read_json(folder / INDEX, base)
    kind, parts = index.get("_class_name"), {}
    for name, value in index.items():
        if isinstance(value, list) and not name.startswith("_") and value[-1:] not in ([], [None]):
            parts[name] = str(value[-1])
    wanted_classes = CLASSES | (XL_CLASSES if is_xl(parts) else {})
    for name, classes in (wanted_classes | OPTIONAL).items():
        if name not in parts and name in OPTIONAL:
            continue
        found = parts.get(name, "none")
        if found == "none" or (classes and found not in classes):
            wanted = f" {' or '.join(classes)}" if classes else " one"
            raise InputError(f"{base}: expected {KIND}, found {kind} ({name}: expected{wanted}, found {found})")
    if more := parts.keys() - wanted_classes.keys() - OPTIONAL.keys() - IGNORED:
        name = min(more)
        raise InputError(f"{base}: expected {KIND}, found {kind} (with a {name}, {parts[name]})")
    _check_unet(folder, base, kind, is_xl(parts))
    return parts.keys() & (wanted_classes.keys() | OPTIONAL.keys())


def _check_unet(folder: Path, base: str, kind: Any, xl: bool) -> None:
    """Raise `InputError` if the U-Net takes inputs other than VAE latents and the text encoders' outputs."""
    names = ("unet", "vae", "text_encoder", *(("text_encoder_2",) if xl else ()))
    unet, vae, *texts = (read_json(folder / part / "config.json", base) for part in names)
    if vae.get("latents_mean") is not None:
        raise InputError(f"{base}: expected {KIND}, found {kind} (vae: latents_mean: expected none)")
    wanted: dict[str, Any] = _INPUTS | {"addition_embed_type": "text_time" if xl else None}
    sizes = {"in_channels": vae.get("latent_channels"), "out_channels": vae.get("latent_channels")}
    widths: list[Any] = [text.get("hidden_size") for text in texts]
    sizes["cross_attention_dim"] = None if None in widths else sum(widths)
    told: list[Any] = [unet.get("addition_time_embed_dim"), texts[1].get("projection_dim")] if xl else [None]
    if None not in told:
        sizes["projection_class_embeddings_input_dim"] = _NUM_SIZES * told[0] + told[1]
    wanted |= {name: size for name, size in sizes.items() if size is not None and name in unet}
    for name, value in wanted.items():
        if unet.get(name) != value:
            raise InputError(
                f"{base}: expected {KIND}, found {kind} (unet: {name}: expected {value}, as its vae and text encoders "
                f"have, found {unet.get(name)})"
            )


def choose_parts(
    parts: Collection[str], names: Collection[str], base: str, variant: str | None
) -> dict[str, tuple[str | None, list[str]]]:
    """A base's parts, and all names in its folder (`unet/config.json`) => the variant and the files of each part."""
    chosen = {}
    for part in sorted(STEMS.keys() & set(parts)):
        inside = [name.removeprefix(f"{part}/") for name in names if name.startswith(f"{part}/")]
        try:
            chosen[part] = choose_weights(inside, STEMS[part], variant)
        except InputError as error:
            raise InputError(f"{base}: {EXPECTED}: {part}: {error}") from error
    if variant is not None and all(found != variant for found, _ in chosen.values()):
        raise InputError(f"{base}: variant: expected one that the base has, found {variant!r}")
    return chosen


def check_base_folder(folder: Path, base: str, variant: str | None) -> tuple[set[str], dict[str, str | None]]:
    """The parts of a local base, and of those with weights the variant to load.

    Raises `InputError` naming the base if it is of another kind or a part is incomplete.
    """
    parts = check_kind(folder, base)
    names = {path.relative_to(folder).as_posix() for path in folder.glob("*/*")}
    chosen = choose_parts(parts, names, base, variant)
    for part, (_, files) in chosen.items():
        for name in files:
            if name.endswith(".safetensors"):
                check_safetensors(folder / part / name, f"{base}: {EXPECTED}: {part}/{name}")
    return parts, {part: found for part, (found, _) in chosen.items()}


def read_json(path: Path, base: str, expected: str = "a configuration in JSON") -> dict[str, Any]:
    """A configuration as a dictionary; raises `InputError` naming the file if it is invalid."""
    name = path if str(path).startswith(base) else f"{base}: {path.name}"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{name}: expected {expected}: {error.strerror}") from error
    except ValueError as error:  # from JSON or UTF-8 decoding
        raise InputError(f"{name}: expected {expected}, found something else") from error
    if not isinstance(found, dict):
        raise InputError(f"{name}: expected {expected}, found a {type(found).__name__}")
    return found


def describe_folder(folder: Path) -> str:
    """A few words on a folder that is neither a base nor an adapter."""
    names = sorted(path.name for path in folder.iterdir())
    if not names:
        return "an empty folder"
    if INDEX in names:
        return f"a pipeline of diffusers ({read_json(folder / INDEX, str(folder)).get('_class_name')})"
    if inside := [path.parent for depth in ("*", "*/*") for path in sorted(folder.glob(f"{depth}/{INDEX}"))]:
        return f"a folder around one: name {inside[0]}"
    if "adapter_config.json" in names:
        return "a LoRA of PEFT"
    if "config.json" in names:
        config = read_json(folder / "config.json", str(folder))
        if "base_facts" in config:
            return "an adapter of fourdistill"
        kind = config.get("_class_name") or next(iter(config.get("architectures") or ()), config.get("model_type"))
        return f"a {kind} alone" if kind else "a folder with another config.json"
    if parts := [name for name in names if name in CLASSES]:
        return f"{', '.join(parts)} without {INDEX}: is the download complete?"
    if files := [name for name in names if name.lower().endswith((".safetensors", ".ckpt"))]:
        return f"{files[0]}, a checkpoint in one file"
    return f"{len(names)} other files and folders"
