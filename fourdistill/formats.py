"""IP-Adapter Plus checkpoints in their original layout: an adapter's image prompt out, and in.

    image_prompt.projector      <=> image_proj.*       norms, queries, feed-forwards under the original's names
    image_prompt.to_{k,v}_ip.l  <=> ip_adapter.{2n + 1}.to_{k,v}_ip.weight

where l counts the cross-attention layers in execution order (down, mid, up) and n in that of `unet.attn_processors`
(down, up, mid): layers are matched by their names, never by their numbers.
"""

import pickle
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fourdistill.data.files import new_file
from fourdistill.errors import InputError
from fourdistill.models.adapter import Adapter
from fourdistill.models.adapter_config import AdapterSettings
from fourdistill.models.base import load_base

PARTS = ("image_proj", "ip_adapter")
# What diffusers' loader takes for granted of a projector.
FIXED_SIZES = {"dim_head": 64, "depth": 4, "ffn_ratio": 4}
_NAMES = (  # diffusers' names, the original's
    (".ln0.", ".0.norm1."),
    (".ln1.", ".0.norm2."),
    (".attn.to_q.", ".0.to_q."),
    (".attn.to_out.0.", ".0.to_out."),
    (".ff.0.", ".1.0."),
    (".ff.1.net.0.proj.", ".1.1."),
    (".ff.1.net.2.", ".1.3."),
)


def write_ip_adapter(path: Path, adapter: Adapter, unet: Any) -> None:
    """Write an adapter's image prompt as stock `load_ip_adapter` takes it (.safetensors), for its base's `unet`.

    Raises `InputError` where the format cannot say what the adapter's projector is.
    """
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: expected a name that ends in .safetensors")
    for name, size in FIXED_SIZES.items():
        if adapter.config.projector[name] != size:
            raise InputError(
                f"{name}: an IP-Adapter Plus has {size}, but this adapter's projector has "
                f"{adapter.config.projector[name]}"
            )
    checkpoint: dict[str, Any] = projector_weights(adapter.image_prompt.projector)
    for number, name in enumerate(unet.attn_processors):
        if name.removesuffix(".processor") in adapter.config.base_facts.layer_names:
            layer = adapter.config.base_facts.layer_names.index(name.removesuffix(".processor"))
            checkpoint[f"ip_adapter.{number}.to_k_ip.weight"] = adapter.image_prompt.to_k_ip[layer].weight
            checkpoint[f"ip_adapter.{number}.to_v_ip.weight"] = adapter.image_prompt.to_v_ip[layer].weight
    _save(path, checkpoint)


def projector_weights(projector: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights of diffusers' `IPAdapterPlusImageProjection` under the names of the original's checkpoints."""
    weights = projector.state_dict()
    named = {}
    for key, value in weights.items():
        if ".attn.to_v." in key:
            continue  # it goes with its to_k
        if ".attn.to_k." in key:
            value = torch.cat([value, weights[key.replace(".to_k.", ".to_v.")]])
            key = key.replace(".attn.to_k.", ".0.to_kv.")
        for ours, original in _NAMES:
            key = key.replace(ours, original)
        named[f"image_proj.{key}"] = value
    return named


def left_out(adapter: Adapter) -> list[str]:
    """What of an adapter has no place in an IP-Adapter checkpoint."""
    settings = adapter.config.settings
    return [
        "mappers",
        *["displacement prior"] * (adapter.prior is not None),
        *["displacement tokens"] * bool(settings.displacement_tokens),
        *["low-rank updates"] * bool(settings.lora_rank),
    ]


def convert_ip_adapter(checkpoint: Path, path: Path) -> None:
    """Write a checkpoint, .bin or .safetensors, as .safetensors."""
    _save(path, read_checkpoint(checkpoint))


def import_ip_adapter(
    checkpoint: Path, base: str, others: Adapter | None, seed: int, image_encoder: str | None = None
) -> Adapter:
    """An adapter for a base with a checkpoint's image prompt; the rest is that of `others`, or new from `seed`.

    Raises `InputError` where the checkpoint is not an IP-Adapter Plus for this base.
    """
    with TemporaryDirectory() as folder:
        converted = Path(folder) / f"{checkpoint.stem}.safetensors"
        convert_ip_adapter(checkpoint, converted)
        loaded = load_base(base, str(converted), image_encoder=image_encoder)
    settings = AdapterSettings() if others is None else others.config.settings
    prior = None if others is None else others.prior
    adapter = Adapter.from_base(loaded, settings, torch.Generator().manual_seed(seed), prior)
    if others is not None:
        prompt = {name: value for name, value in adapter.state_dict().items() if name.startswith("image_prompt.")}
        own = {name for name in prompt if "_tokens." in name}  # the displacement tokens are no part of a checkpoint
        adapter.load_state_dict(others.state_dict() | {name: prompt[name] for name in prompt.keys() - own})
    return adapter


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of an IP-Adapter checkpoint by their flat names; a .bin is read as weights alone.

    Raises `InputError` where it holds anything else.
    """
    try:
        if path.suffix == ".safetensors":
            flat: Any = load_file(path)
        elif path.suffix == ".bin":
            nested = torch.load(path, map_location="cpu", weights_only=True)
            flat = {f"{part}.{name}": value for part in PARTS for name, value in nested[part].items()}
        else:
            raise InputError(f"{path}: expected an IP-Adapter checkpoint that ends in .bin or .safetensors")
    except FileNotFoundError as error:
        raise InputError(f"{path}: expected an IP-Adapter checkpoint, there is no such file") from error
    except (
        OSError, SafetensorError, RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError, KeyError,
        TypeError, AttributeError, ValueError,
    ) as error:  # by kind of damage, or of content that is no weights  # fmt: skip
        raise InputError(f"{path}: expected an IP-Adapter checkpoint, weights alone: {_first_line(error)}") from error
    for part in PARTS:
        if not any(name.startswith(f"{part}.") for name in flat):
            raise InputError(f"{path}: {part}: expected the weights of an IP-Adapter, found none")
    for name, value in flat.items():
        if not isinstance(value, torch.Tensor) or name.split(".")[0] not in PARTS:
            raise InputError(f"{path}: {name}: expected weights of {' and '.join(PARTS)} alone")
    return flat


def _save(path: Path, weights: dict[str, torch.Tensor]) -> None:
    """Write tensors, whole or not at all; each its own copy, as safetensors refuses shared memory."""
    with new_file(path) as partial:
        save_file({name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}, partial)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
