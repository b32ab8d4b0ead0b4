"""The device and the number format for computation: those that are fast on this machine."""

from contextlib import AbstractContextManager

import torch
from torch import nn

from fourdistill.errors import InputError

PRECISIONS = ("auto", "no", "bf16", "fp16")
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def default_device() -> torch.device:
    """The first GPU, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def find_device(name: str | None) -> torch.device:
    """The device of this name (`cpu`, `cuda`, `cuda:1`), or the default; raises `InputError` if it does not exist."""
    if name is None:
        return default_device()
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # invalid name; no such device on this machine
        gpus = torch.cuda.device_count()
        known = ", ".join(["cpu", *(f"cuda:{i}" for i in range(gpus))])
        raise InputError(f"device: expected one that this machine has ({known}), got {name!r}") from error
    return device


def resolve_precision(name: str, device: torch.device) -> str:
    """One of `PRECISIONS` => `no`, `bf16` or `fp16`, accelerate's names; `auto` is bf16 if `device` supports it.

    Raises `InputError` for half precision on Apple's GPUs. A CPU without bf16 instructions emulates them, many times
    slower than float32.
    """
    if device.type == "mps":
        if name not in ("auto", "no"):
            raise InputError(f"mixed_precision: expected no on mps, where half precision was never tried, got {name}")
        return "no"
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return "bf16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "no"


def check_precision(dtype: torch.dtype, device: torch.device) -> None:
    """Raise `InputError` where a model in `dtype` was never tried on `device`: in half precision on Apple's GPUs."""
    if device.type == "mps" and dtype != torch.float32:
        raise InputError(f"dtype: expected torch.float32 on mps, where half precision was never tried, got {dtype}")


def autocast(name: str, device: torch.device) -> AbstractContextManager:
    """A context in which layers compute in the format that `name` resolves to."""
    dtype = _DTYPES.get(resolve_precision(name, device))
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


def store_weights(unet: nn.Module, precision: str) -> None:
    """Store a frozen U-Net's weights in the format in which autocast computes with them: `no`, `bf16` or `fp16`.

    Its output under autocast stays the same, bit by bit. Autocast would convert frozen weights anew in every pass,
    which takes a sixth of the time of a pass through Stable Diffusion, and in float32 they take twice the memory. From
    now on the U-Net works under autocast only. Norms compute in float32 and stay, as does `conv_in`: diffusers takes
    the type of the latents from it.
    """
    dtype = _DTYPES.get(precision)
    for name, module in unet.named_modules():
        if dtype is not None and name != "conv_in" and isinstance(module, (nn.Linear, nn.Conv2d)):
            module.to(dtype)
