"""IP-Adapter checkpoints, original and Plus: reading, recognizing, and checking against a base before loading.

    image_proj.*                          the projector: norms, queries, feed-forwards under their original names
    ip_adapter.{n}.to_{k,v}_ip.weight     one of each for every cross-attention layer; n counts `unet.attn_processors`

They come flat (.safetensors), as one dictionary per part (.bin), as saved by a training run (`image_proj_model.*`,
`adapter_modules.*`), or from a U-Net that diffusers saved (`encoder_hid_proj.*`, `<layer>.processor.*`). diffusers'
own names for the projector's weights are also accepted, and names of layers in the place of their numbers.
"""

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from fourdistill.errors import InputError
from fourdistill.models.base.checkpoint_kinds import ORIGINAL, PLUS, Shapes, describe, projector_kind
from fourdistill.models.base.projectors import Projector, build_projector
from fourdistill.models.base.weight_files import PICKLED, check_safetensors, describe_file, read_shapes

SUFFIXES = (".safetensors", *PICKLED)
PARTS = ("image_proj", "ip_adapter")
KINDS = "IP-Adapter, original or Plus"
# Projector sizes that diffusers' loader assumes, of a Plus and of the original.
FIXED_SIZES = {"dim_head": 64, "depth": 4, "ffn_ratio": 4, "num_image_text_embeds": 4}
_SAVED = (  # parts as a training run names them, and as they are called in a U-Net with the first IP-Adapter in it
    (r"image_proj_model\.", "image_proj."),
    (r"adapter_modules\.", "ip_adapter."),
    (r"(?:unet\.)?encoder_hid_proj\.image_projection_layers\.0\.", "image_proj."),
    (r"(?:unet\.)?(\w+_blocks?\.[\w.]+)\.processor\.(to_[kv]_ip)\.0\.", r"ip_adapter.\1.\2."),
)
_LAYER = re.compile(r"ip_adapter\.(\d+|\w+_blocks?\.[\w.]+\.attn2)\.to_([kv])_ip\.weight")
_NAMES = (  # diffusers' names, original names
    (".ln0.", ".0.norm1."),
    (".ln1.", ".0.norm2."),
    (".attn.to_q.", ".0.to_q."),
    (".attn.to_out.0.", ".0.to_out."),
    (".ff.0.", ".1.0."),
    (".ff.1.net.0.proj.", ".1.1."),
    (".ff.1.net.2.", ".1.3."),
    ("image_embeds.", "proj."),
)

_ORIGINAL = re.compile(r"(image_proj|image_proj_model|.*image_projection_layers\.0)\.(proj|image_embeds)\.weight")

Weights = dict[str, torch.Tensor]


def is_original(names: Iterable[str]) -> bool:
    """Whether names of weights are those of an original IP-Adapter."""
    return any(_ORIGINAL.fullmatch(name) for name in names)


def is_original_file(path: Path) -> bool:
    """Whether a .safetensors is an original IP-Adapter, by its header."""
    return describe_file(path) == "safetensors" and is_original(read_shapes(path))


def read_ip_adapter(path: Path) -> Weights:
    """The weights of an original or Plus IP-Adapter under flat original names; raises `InputError` for any other."""
    weights = flatten(path, read_weights(path))
    check_kind(path, weights)
    return weights


def check_kind(path: Path, weights: Weights) -> None:
    """Raise `InputError` if weights under flat original names are not those of a whole IP-Adapter of such a kind."""
    shapes = shapes_of(weights)
    projector = {name.removeprefix("image_proj."): s for name, s in shapes.items() if name.startswith("image_proj.")}
    layers = {name for name in shapes if name.startswith("ip_adapter.")}
    kind = projector_kind(projector)
    if kind not in (PLUS, ORIGINAL) or not layers or any("_lora." in name for name in layers):
        raise InputError(f"{path}: expected an {KINDS}, found {describe(shapes)}")
    for name in sorted(layers):
        if not _LAYER.fullmatch(name):
            raise InputError(f"{path}: {name}: expected ip_adapter.1.to_k_ip.weight and the like, a layer each")
    built = _projector_shapes(path, kind, projector)
    wanted = {f"image_proj.{name}": shape for name, shape in built.items()}
    width = built["proj_out.weight"][0] if kind == PLUS else built["norm.weight"][0]
    wanted |= {name: (*shapes[name][:1], width) for name in layers}
    _compare(path, kind, shapes, wanted)


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
    flat = _take_saved_parts(flat)
    for name, value in flat.items():
        if not isinstance(value, torch.Tensor):
            raise InputError(f"{path}: {name}: expected weights, found a {type(value).__name__}")
    if any(name.startswith("image_proj.") for name in flat):
        for name in flat:
            if name.split(".")[0] not in PARTS:
                raise InputError(f"{path}: {name}: expected weights of {' and '.join(PARTS)} alone")
    return original_names(flat)


def _take_saved_parts(flat: dict[str, Any]) -> dict[str, Any]:
    """A saved model's weights => only those of its IP-Adapter, under flat names; weights without any are unchanged."""
    taken = {}
    for name, value in flat.items():
        for saved, ours in _SAVED:
            if match := re.match(saved, name):
                taken[match.expand(ours) + name[match.end() :]] = value
    return taken or flat


def original_names(weights: Mapping[str, torch.Tensor]) -> Weights:
    """Projector weights under diffusers' or original names => under original names; others are unchanged."""
    named = {}
    for key, value in weights.items():
        if ".attn.to_v." in key:
            continue  # handled with its to_k
        if ".attn.to_k." in key and key.replace(".to_k.", ".to_v.") in weights:
            value = torch.cat([value, weights[key.replace(".to_k.", ".to_v.")]])
            key = key.replace(".attn.to_k.", ".0.to_kv.")
        if not key.startswith("ip_adapter."):
            for theirs, original in _NAMES:
                key = key.replace(theirs, original)
        named[key] = value
    return named


def projector_weights(projector: Projector) -> Weights:
    """The weights of diffusers' projector under a checkpoint's names."""
    return {f"image_proj.{name}": value for name, value in original_names(projector.state_dict()).items()}


def fit(path: Path, weights: Weights, unet: Any, image_encoder: Any, base: str) -> Weights:
    """The same weights, every layer by its number in `unet.attn_processors`.

    `image_encoder` is the encoder's configuration. Raises `InputError` naming the value that differs if a checkpoint is
    for another base.
    """
    original = "image_proj.proj.weight" in weights
    kind = ORIGINAL if original else PLUS
    width = weights["image_proj.proj.weight" if original else "image_proj.proj_in.weight"].shape[1]
    embeds_width = image_encoder.projection_dim if original else image_encoder.hidden_size
    if width != embeds_width:
        raise InputError(
            f"{path}: expected an {kind} for {base}, whose image encoder is {embeds_width} wide, found one for {width}"
        )
    numbers = {name.removesuffix(".processor"): number for number, name in enumerate(unet.attn_processors)}
    weights = {_number_layer(name, numbers): value for name, value in weights.items()}
    shapes = shapes_of(weights)
    wanted = {name: shape for name, shape in shapes.items() if not name.startswith("ip_adapter.")}
    for name, number in numbers.items():
        if name.endswith("attn2"):
            to_k = unet.get_submodule(name).to_k
            wanted |= {f"ip_adapter.{number}.to_{kv}_ip.weight": (to_k.out_features, to_k.in_features) for kv in "kv"}
    _compare(path, f"{kind} for {base}", shapes, wanted)
    return weights


def _number_layer(name: str, numbers: Mapping[str, int]) -> str:
    """A weight's name with its layer's number in the place of the layer's name, if it has one that is known."""
    match = _LAYER.fullmatch(name)
    return f"ip_adapter.{numbers[match[1]]}.to_{match[2]}_ip.weight" if match and match[1] in numbers else name


def shapes_of(weights: Mapping[str, torch.Tensor]) -> Shapes:
    """Names => shapes."""
    return {name: tuple(value.shape) for name, value in weights.items()}


def _projector_shapes(path: Path, kind: str, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """The shapes that a projector must have, given its own sizes."""
    try:
        sizes = _original_sizes(shapes) if kind == ORIGINAL else _plus_sizes(shapes)
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: image_proj: expected the projector of an {kind}, found a part of one") from error
    with torch.device("meta"):
        built = build_projector(sizes)
    return dict(shapes_of(original_names(built.state_dict())))


def _original_sizes(shapes: Shapes) -> dict[str, int]:
    _, embeds = shapes["proj.weight"]
    (width,) = shapes["norm.weight"]
    tokens = FIXED_SIZES["num_image_text_embeds"]
    return {"image_embed_dim": embeds, "cross_attention_dim": width, "num_image_text_embeds": tokens}


def _plus_sizes(shapes: Shapes) -> dict[str, int]:
    (_, queries, hidden), (_, embeds), (width, _), (inner, _) = (
        shapes[name] for name in ("latents", "proj_in.weight", "proj_out.weight", "layers.0.0.to_q.weight")
    )
    fixed = {name: FIXED_SIZES[name] for name in ("dim_head", "depth", "ffn_ratio")}
    heads = max(inner // fixed["dim_head"], 1)
    sizes = {"embed_dims": embeds, "output_dims": width, "hidden_dims": hidden, "heads": heads, "num_queries": queries}
    return sizes | fixed


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
