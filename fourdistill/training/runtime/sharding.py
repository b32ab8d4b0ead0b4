"""A base too large for a copy on every device: its frozen U-Net lies in parts on all of them (PyTorch's FSDP2).

accelerate's own config says so, and how (`distributed_type: FSDP`; configs/accelerate/eight_gpus_sharded.yaml).
accelerate would shard what it prepares. Here that is the adapter, which is small: it is copied to every device as ever
(DDP), and what is large is sharded, by the same options. Every process must then call the U-Net equally often.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate.utils import FullyShardedDataParallelPlugin, get_module_children_bottom_up, parse_flag_from_env
from accelerate.utils.fsdp_utils import fsdp2_prepare_auto_wrap_policy
from diffusers.models import UNet2DConditionModel
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, fully_shard
from torch.distributed.fsdp.wrap import size_based_auto_wrap_policy

from fourdistill.errors import InputError

_FLAG = "ACCELERATE_USE_FSDP"


def read_sharding() -> FullyShardedDataParallelPlugin | None:
    """What accelerate's config says of sharding, or None. Raises `InputError` for options that are not followed."""
    if not parse_flag_from_env(_FLAG):
        return None
    try:
        sharding = FullyShardedDataParallelPlugin()  # by the environment, where `accelerate launch` puts its config
    except (ValueError, ImportError) as error:
        raise InputError(f"accelerate: fsdp_config: {error}") from error
    if sharding.fsdp_version != 2:
        raise InputError(f"accelerate: fsdp_version: expected 2, got {sharding.fsdp_version}")
    if sharding.auto_wrap_policy is size_based_auto_wrap_policy:
        raise InputError("accelerate: fsdp_auto_wrap_policy: expected TRANSFORMER_BASED_WRAP or NO_WRAP")
    if sharding.activation_checkpointing:
        raise InputError("accelerate: fsdp_activation_checkpointing: expected false; see train.gradient_checkpointing")
    if isinstance(sharding.cpu_offload, CPUOffloadPolicy):
        raise InputError("accelerate: fsdp_offload_params: expected false: the U-Net stays on the devices")
    return sharding


@contextmanager
def copying() -> Iterator[None]:
    """An accelerator that is made within copies what it prepares (DDP), whatever its config says of sharding."""
    before = os.environ.get(_FLAG)
    os.environ[_FLAG] = "false"
    try:
        yield
    finally:
        os.environ[_FLAG] = "false" if before is None else before


def shard_unet(unet: UNet2DConditionModel, sharding: FullyShardedDataParallelPlugin, device: torch.device) -> None:
    """Move a U-Net to the `device`s of all processes, a part to each.

    Its blocks are gathered one at a time, when they compute. The process group must have been started. Raises
    `InputError` where the config names a class of blocks that the U-Net has not.
    """
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    try:
        is_unit = fsdp2_prepare_auto_wrap_policy(sharding, unet) or (lambda module: False)
    except ValueError as error:
        raise InputError(f"accelerate: fsdp_transformer_layer_cls_to_wrap: {error}") from error
    reshard = bool(sharding.reshard_after_forward)
    for module in get_module_children_bottom_up(unet):  # the U-Net itself comes last
        if module is unet or is_unit(module):
            fully_shard(module, mesh=mesh, reshard_after_forward=reshard)


def is_sharded(unet: UNet2DConditionModel) -> bool:
    """Whether only a part of it lies here."""
    return isinstance(unet, FSDPModule)
