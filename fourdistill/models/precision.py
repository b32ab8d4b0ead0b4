"""Which number format to compute in, and where: what the machine does fast."""

from contextlib import AbstractContextManager

import torch

PRECISIONS = ("auto", "no", "bf16", "fp16")
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def default_device() -> torch.device:
    """The first GPU, or the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def resolve_precision(name: str, device: torch.device) -> str:
    """One of `PRECISIONS` => `no`, `bf16` or `fp16`, accelerate's names; `auto` is bf16 where `device` has it.

    A processor without bf16 instructions emulates them many times slower than float32.
    """
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return "bf16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "no"


def autocast(name: str, device: torch.device) -> AbstractContextManager:
    """A context in which layers compute in the format that `name` resolves to."""
    dtype = _DTYPES.get(resolve_precision(name, device))
    return torch.autocast(device.type, dtype, enabled=dtype is not None)
