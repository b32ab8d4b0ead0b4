"""Low-rank updates of the U-Net's attention (LoRA: Hu et al., arXiv 2106.09685), put in by peft.

The U-Net's own weights stay frozen. The updates live inside the U-Net, where they act; the adapter holds the same
modules, so that they are trained, saved and distributed with the rest of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models import UNet2DConditionModel
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn

TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]  # of self- and cross-attention
NAME = "fourdistill"


def inject_lora(unet: UNet2DConditionModel, rank: int, generator: torch.Generator | None = None) -> nn.ModuleDict:
    """Put updates of this rank into every attention layer of a U-Net, which computes as before; returns them by layer.

    Each is `down` (rank, in) drawn from `generator` and `up` (out, rank), zero; the update is up @ down. Earlier
    updates of this kind are replaced.
    """
    unet.requires_grad_(False)
    remove_lora(unet)
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS, init_lora_weights=True)
    inject_adapter_in_model(config, unet, adapter_name=NAME)
    updates = {}
    for name, module in unet.named_modules():
        if isinstance(module, LoraLayer):
            down: Any = module.lora_A[NAME]
            up: Any = module.lora_B[NAME]
            nn.init.kaiming_uniform_(down.weight, a=5**0.5, generator=generator)
            nn.init.zeros_(up.weight)
            updates[name.replace(".", "-")] = nn.ModuleDict({"down": down, "up": up})  # names of modules have no dots
    return nn.ModuleDict(updates)


@contextmanager
def plain_layers(unet: UNet2DConditionModel) -> Iterator[None]:
    """Within the context a U-Net has its plain layers and their names, as it is to be saved; no updates act."""
    updated = {name: module for name, module in unet.named_modules() if isinstance(module, LoraLayer)}
    config = getattr(unet, "peft_config", None)
    remove_lora(unet)
    try:
        yield
    finally:
        for name, module in updated.items():
            setattr(unet.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], module)
        if config is not None:
            unet.peft_config = config


def remove_lora(unet: UNet2DConditionModel) -> None:
    """Give a U-Net its plain layers back, where `inject_lora` had changed them."""
    for name, module in list(unet.named_modules()):
        if isinstance(module, LoraLayer):
            parent: Any = unet.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], module.get_base_layer())
    if hasattr(unet, "peft_config"):
        del unet.peft_config
