"""IP-Adapter Plus checkpoints: reading, recognizing, and checking against a base before loading into a model.

    image_proj.*                          the projector: norms, queries, feed-forwards under their original names
    ip_adapter.{n}.to_{k,v}_ip.weight     one of each for every cross-attention layer; n counts `unet.attn_processors`

They come flat (.safetensors), as one dictionary per part (.bin), or as saved by a training run (`image_proj_model.*`,
`adapter_modules.*`). diffusers' own names for the projector's weights are also accepted.
"""

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.embeddings import IPAdapterPlusImageProjection
from safetensors.torch import load_file

from fourdistill.errors import InputError
from fourdistill.models.base.checkpoint_kinds import PLUS, Shapes, describe, projector_kind
from fourdistill.models.base.weight_files import PICKLED, check_safetensors, describe_file

SUFFIXES = (".safetensors", *PICKLED)
PARTS = ("image_proj", "ip_adapter")
# Projector sizes that diffusers' loader assumes.
FIXED_SIZES = {"dim_head": 64, "depth": 4, "ffn_ratio": 4}
_TRAINING = {"image_proj_model.": "image_proj.", "adapter_modules.": "ip_adapter."}
_NAMES = (  # diffusers' names, original names
    (".ln0.", ".0.norm1."),
    (".ln1.", ".0.norm2."),
    (".attn.to_q.", ".0.to_q."),
    (".attn.to_out.0.", ".0.to_out."),
    (".ff.0.", ".1.0."),
    (".ff.1.net.0.proj.", ".1.1."),
    (".ff.1.net.2.", ".1.3."),
)

Weights = dict[str, torch.Tensor]


def read_ip_adapter(path: Path) -> Weights:
    """The weights of an IP-Adapter Plus under flat original names; raises `InputError` for anything else."""
    weights = flatten(path, read_weights(path))
    shapes = shapes_of(weights)
    projector = {name.removeprefix("image_proj."): s for name, s in shapes.items() if name.startswith("image_proj.")}
    layers = {name for name in weights if name.startswith("ip_adapter.")}
    if projector_kind(projector) != PLUS or not layers or any("_lora." in name for name in layers):
        raise InputError(f"{path}: expected an {PLUS}, found {describe(shapes)}")
    for name in sorted(layers):
        if not re.fullmatch(r"ip_adapter\.\d+\.to_[kv]_ip\.weight", name):
            raise InputError(f"{path}: {name}: expected ip_adapter.1.to_k_ip.weight and the like, layers by number")
    wanted = {f"image_proj.{name}": shape for name, shape in _projector_shapes(path, projector).items()}
    width = wanted["image_proj.proj_out.weight"][0]
    wanted |= {name: (*shapes[name][:1], width) for name in layers}
    _compare(path, PLUS, shapes, wanted)
    return weights


def read_weights(path: Path) -> Any:
    """The content of a checkpoint, weights only: no code in it runs. Raises `InputError` if it is not a checkpoint."""
    found = describe_file(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: expected an IP-Adapter checkpoint that ends in {', '.join(SUFFIXES)}")
    if path.suffix.lower() == ".safetensors":
        check_safetensors(path)
        return load_file(path)
    if found != "pickled weights":
        renamed = "; let its name end in .safetensors" if found == "safetensors" else ""
        raise InputError(f"{path}: expected pickled weights, as its ending says, found {found}{renamed}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about pickle protocols other than torch's
            return torch.load(path, map_location="cpu", weights_only=True)
    except (
        OSError, RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError, KeyError, IndexError, TypeError,
        AttributeError, ValueError,
    ) as error:  # by kind of damage, or of content that is no weights  # fmt: skip
        code = re.search(r"GLOBAL (\S+)", str(error))
        found = f"{code[1]} in it, which is not run" if code else "a truncated file, or one that is not torch.save's"
        raise InputError(f"{path}: expected weights alone, found {found}") from error


def flatten(path: Path, content: Any) -> Weights:
    """The tensors of a checkpoint under flat names; an IP-Adapter's under original names, without a saved U-Net.

    Raises `InputError` if there is anything but tensors.
    """
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):  # saved by Lightning
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: expected weights by name, found a {type(content).__name__}")
    flat: dict[str, Any] = {}
    for name, value in content.items():
        flat |= {f"{name}.{key}": v for key, v in value.items()} if isinstance(value, Mapping) else {str(name): value}
    if any(name.startswith(tuple(_TRAINING)) for name in flat):
        flat = {
            ours + k.removeprefix(t): v for k, v in flat.items() for t, ours in _TRAINING.items() if k.startswith(t)
        }
    for name, value in flat.items():
        if not isinstance(value, torch.Tensor):
            raise InputError(f"{path}: {name}: expected weights, found a {type(value).__name__}")
    if any(name.startswith("image_proj.") for name in flat):
        for name in flat:
            if name.split(".")[0] not in PARTS:
                raise InputError(f"{path}: {name}: expected weights of {' and '.join(PARTS)} alone")
    return original_names(flat)


def original_names(weights: Mapping[str, torch.Tensor]) -> Weights:
    """Projector weights under diffusers' or original names => under original names; others are unchanged."""
    named = {}
    for key, value in weights.items():
        if ".attn.to_v." in key:
            continue  # handled with its to_k
        if ".attn.to_k." in key and key.replace(".to_k.", ".to_v.") in weights:
            value = torch.cat([value, weights[key.replace(".to_k.", ".to_v.")]])
            key = key.replace(".attn.to_k.", ".0.to_kv.")
        for theirs, original in _NAMES:
            key = key.replace(theirs, original)
        named[key] = value
    return named


def projector_weights(projector: torch.nn.Module) -> Weights:
    """The weights of diffusers' `IPAdapterPlusImageProjection` under a checkpoint's names."""
    return {f"image_proj.{name}": value for name, value in original_names(projector.state_dict()).items()}


def check_fits(path: Path, weights: Weights, unet: Any, embeds_width: int, base: str) -> None:
    """Raise `InputError` naming the value that differs if a checkpoint is for another base."""
    width = weights["image_proj.proj_in.weight"].shape[1]
    if width != embeds_width:
        raise InputError(
            f"{path}: expected an {PLUS} for {base}, whose image encoder is {embeds_width} wide, found one for {width}"
        )
    shapes = shapes_of(weights)
    wanted = {name: shape for name, shape in shapes.items() if not name.startswith("ip_adapter.")}
    for number, name in enumerate(unet.attn_processors):
        if name.endswith("attn2.processor"):
            to_k = unet.get_submodule(name.removesuffix(".processor")).to_k
            shape = (to_k.out_features, to_k.in_features)
            wanted |= {f"ip_adapter.{number}.to_{kind}_ip.weight": shape for kind in "kv"}
    _compare(path, f"{PLUS} for {base}", shapes, wanted)


def shapes_of(weights: Mapping[str, torch.Tensor]) -> Shapes:
    """Names => shapes."""
    return {name: tuple(value.shape) for name, value in weights.items()}


def _projector_shapes(path: Path, sizes: Shapes) -> dict[str, tuple[int, ...]]:
    """The shapes that a projector must have, given its own sizes."""
    try:
        (_, queries, hidden), (_, embeds), (width, _) = (
            sizes[name] for name in ("latents", "proj_in.weight", "proj_out.weight")
        )
        inner, _ = sizes["layers.0.0.to_q.weight"]
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: image_proj: expected the projector of an {PLUS}, found a part of one") from error
    heads = inner // FIXED_SIZES["dim_head"]
    with torch.device("meta"):
        built = IPAdapterPlusImageProjection(
            embed_dims=embeds, output_dims=width, hidden_dims=hidden, heads=max(heads, 1), num_queries=queries,
            depth=FIXED_SIZES["depth"], dim_head=FIXED_SIZES["dim_head"], ffn_ratio=FIXED_SIZES["ffn_ratio"],
        )  # fmt: skip
    return dict(shapes_of(original_names(built.state_dict())))


def _compare(path: Path, kind: str, shapes: Shapes, wanted: Shapes) -> None:
    """Raise `InputError` naming the first weights that are missing, of another shape, or unknown."""
    for name in sorted(wanted.keys() | shapes.keys()):
        expected, found = (list(sizes[name]) if name in sizes else "none" for sizes in (wanted, shapes))
        if expected != found:
            found = f"{found}: it is {describe(shapes)}" if name in shapes else found
            raise InputError(f"{path}: expected an {kind}: {name}: expected {expected}, found {found}")


def nested(weights: Weights) -> dict[str, Weights]:
    """Flat names => one dictionary per part, as diffusers' loader expects."""
    parts: dict[str, Weights] = {part: {} for part in PARTS}
    for name, value in weights.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = value
    return parts
