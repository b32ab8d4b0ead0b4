"""Fingerprints of a training's initial weights and other tensors."""

import hashlib
from collections.abc import Iterable

import torch
from torch import nn


def weights_hash(module: nn.Module) -> str:
    """SHA-256 over all parameters and buffers, in the order of the state dict."""
    return tensors_hash(module.state_dict().values())


def tensors_hash(values: Iterable[torch.Tensor]) -> str:
    """SHA-256 over tensors in order."""
    digest = hashlib.sha256()
    for value in values:
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
