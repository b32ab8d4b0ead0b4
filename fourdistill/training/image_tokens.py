"""Distillation in the space of image tokens: a fast first phase that needs no U-Net.

The base's own image prompt draws frame i faithfully when it is shown frame i. So the tokens that the adapter should
make of frame j and a displacement are known without denoising anything: they are the frozen projector's tokens of
frame i. Fitting them costs a fraction of a U-Net step, carries no noise, and leaves to the DDPM loss only what the
mean over all possible answers cannot tell.
"""

import torch
from torch import nn
from torch.nn import functional as F

from fourdistill.models.adapter import Adapter
from fourdistill.models.conditions import Conditions


def image_token_losses(
    adapter: Adapter, projector: nn.Module, conditions: Conditions, target_embeds: torch.Tensor
) -> torch.Tensor:
    """Squared distance of the adapter's image tokens from the base's tokens of the target, per sample, (B,).

    `projector` is the base's own, frozen. target_embeds (B, S, D) are frame i's image embeddings, or those of no image
    where the conditions have none: guidance needs the base's answer to no image unchanged.
    """
    with torch.no_grad():
        wanted = projector(target_embeds)  # (B, T, cross_attention_dim)
    tokens = adapter.image_tokens(conditions)  # (B, T, cross_attention_dim)
    return F.mse_loss(tokens.float(), wanted.float(), reduction="none").mean(dim=(1, 2))
