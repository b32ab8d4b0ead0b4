"""Sharding of the frozen U-Net over all devices (PyTorch's FSDP2), for a base too large to be copied to each.

accelerate's config enables and configures it (`distributed_type: FSDP`; configs/accelerate/eight_gpus_sharded.yaml).
accelerate would shard what it prepares. Here that is the small adapter: it is copied to every device (DDP), and
the large U-Net is sharded with the same options. Every process must then call the U-Net equally often.
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
    """The sharding options of accelerate's config, or None. Raises `InputError` for unsupported options."""
    if not parse_flag_from_env(_FLAG):
        return None
    try:
        sharding = FullyShardedDataParallelPlugin()  # from the environment, where `accelerate launch` puts its config
    except (ValueError, ImportError) as error:
        raise InputError(f"accelerate: fsdp_config: {error}") from error
    if sharding.fsdp_version != 2:
        raise InputError(f"accelerate: fsdp_version: expected 2, got {sharding.fsdp_version}")
    if sharding.auto_wrap_policy is size_based_auto_wrap_policy:
        raise InputError("accelerate: fsdp_auto_wrap_policy: expected TRANSFORMER_BASED_WRAP or NO_WRAP")
    if sharding.activation_checkpointing:
        raise InputError("accelerate: fsdp_activation_checkpointing: expected false: see train.compute")
    if isinstance(sharding.cpu_offload, CPUOffloadPolicy):
        raise InputError("accelerate: fsdp_offload_params: expected false: the U-Net stays on the devices")
    return sharding


@contextmanager
def copying() -> Iterator[None]:
    """A context in which a new accelerator copies what it prepares (DDP), even if its config asks for sharding."""
    before = os.environ.get(_FLAG)
    os.environ[_FLAG] = "false"
    try:
        yield
    finally:
        os.environ[_FLAG] = "false" if before is None else before


def shard_unet(unet: UNet2DConditionModel, sharding: FullyShardedDataParallelPlugin, device: torch.device) -> None:
    """Move a U-Net to the `device`s of all processes, one part to each.

    Its blocks are gathered one at a time for computation. The process group must have been started. Raises
    `InputError` if the config names a block class that the U-Net does not have.
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
    """Whether this device holds only a part of it."""
    return isinstance(unet, FSDPModule)
