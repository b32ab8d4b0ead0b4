"""Placement of the frozen base on devices, and its trade-offs between memory and speed."""

from accelerate import Accelerator

from fourdistill.errors import InputError
from fourdistill.models.base.model import BaseModel
from fourdistill.models.base.precision import store_weights
from fourdistill.training.mappers.settings import Compute
from fourdistill.training.runtime.sharding import read_sharding, shard_unet


def place_base(base: BaseModel, accelerator: Accelerator, settings: Compute) -> None:
    """Move the base to the devices, sharded if accelerate's config says so, or else with the U-Net in its precision.

    Also enable gradient checkpointing or compilation of the frozen U-Net, according to the settings. It must then be
    called under `accelerator.autocast()`.
    """
    sharding = read_sharding()
    if sharding is not None and settings.compile is not None:
        raise InputError("train: compile: expected null beside accelerate's distributed_type FSDP")
    if sharding is not None and accelerator.num_processes > 1:
        shard_unet(base.unet, sharding, accelerator.device)
    else:
        store_weights(base.unet, accelerator.mixed_precision)
    base.to(accelerator.device)
    if settings.gradient_checkpointing:
        base.unet.enable_gradient_checkpointing()
    else:
        base.unet.disable_gradient_checkpointing()
    if settings.compile is not None:
        base.unet.compile(backend=settings.compile)
