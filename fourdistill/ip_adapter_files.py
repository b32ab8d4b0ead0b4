"""Export and import of an adapter's image prompt as an IP-Adapter checkpoint in the original layout.

    image_prompt.projector      <=> image_proj.*       norms, queries, feed-forwards under their original names
    image_prompt.to_{k,v}_ip.l  <=> ip_adapter.{2n + 1}.to_{k,v}_ip.weight

Here l counts the cross-attention layers in execution order (down, mid, up), and n in the order of
`unet.attn_processors` (down, up, mid). Layers are matched by name, never by number.
"""

from pathlib import Path
from typing import Any

import torch

from fourdistill.errors import InputError
from fourdistill.models.adapter import Adapter
from fourdistill.models.adapter_config import AdapterSettings
from fourdistill.models.base.checkpoint_kinds import describe
from fourdistill.models.base.ip_adapter import FIXED_SIZES, projector_weights, read_ip_adapter, shapes_of
from fourdistill.models.base.model import load_base
from fourdistill.models.base.weight_files import save_weights
from fourdistill.models.settings import AS_TRAINED
from fourdistill.storage.files import new_file


def write_ip_adapter(path: Path, adapter: Adapter, unet: Any) -> None:
    """Write an adapter's image prompt for stock `load_ip_adapter` (.safetensors); `unet` is the adapter's base U-Net.

    Raises `InputError` if the format cannot represent the adapter's projector.
    """
    if path.suffix.lower() != ".safetensors":
        raise InputError(f"{path}: expected a name that ends in .safetensors")
    for name, found in adapter.config.projector.items():
        if found != (size := FIXED_SIZES.get(name, found)):
            raise InputError(f"{name}: an IP-Adapter has {size}, but this adapter's projector has {found}")
    checkpoint: dict[str, Any] = projector_weights(adapter.image_prompt.projector)
    for number, name in enumerate(unet.attn_processors):
        if name.removesuffix(".processor") in adapter.config.base_facts.layer_names:
            layer = adapter.config.base_facts.layer_names.index(name.removesuffix(".processor"))
            checkpoint[f"ip_adapter.{number}.to_k_ip.weight"] = adapter.image_prompt.to_k_ip[layer].weight
            checkpoint[f"ip_adapter.{number}.to_v_ip.weight"] = adapter.image_prompt.to_v_ip[layer].weight
    with new_file(path) as partial:
        save_weights(checkpoint, partial, path)


def left_out(adapter: Adapter) -> list[str]:
    """The parts of an adapter that an IP-Adapter checkpoint cannot hold."""
    return ["mapper", *["displacement prior"] * (adapter.prior is not None)]


def convert_ip_adapter(checkpoint: Path, path: Path) -> str:
    """Write an IP-Adapter as .safetensors; return its description. Raises `InputError` for any other kind."""
    weights = read_ip_adapter(checkpoint)
    with new_file(path) as partial:
        save_weights(weights, partial, path)
    return describe(shapes_of(weights))


# The words of an imported IP-Adapter, which has no prior: untrained ones that encode only the displacement.
NO_PRIOR = AdapterSettings(
    mapper_input="displacement", num_words=None, rank=None, num_frequencies=64, hidden_width=128, sigma_time=6.0,
    sigma_view=2.0, sigma_timesteps=1.0, sigma_layer=1.5, lambda_=3.0, view_encoding="spherical", max_gap_s=None,
    sampling=AS_TRAINED,
)  # fmt: skip


def import_ip_adapter(
    checkpoint: Path, base: str, others: Adapter | None, seed: int, image_encoder: str | None = None
) -> Adapter:
    """An adapter with a checkpoint's image prompt, and the settings and prior of `others`.

    Its words are initialized from the new image prompt, because the words of `others` were trained with another one.
    Without `others` it has no prior: its words encode only the displacement and are initialized from `seed`. Raises
    `InputError` if the checkpoint is not an IP-Adapter for this base.
    """
    loaded = load_base(base, str(checkpoint), image_encoder=image_encoder)
    settings = NO_PRIOR if others is None else others.config.settings
    prior = None if others is None else others.prior
    return Adapter.from_base(loaded, settings, torch.Generator().manual_seed(seed), prior)
