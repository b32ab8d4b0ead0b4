"""How strongly a prompt acts beside an image: one number that sets two weights.

The strength ranges from "as in the picture" (0) to "as in the prompt" (1). A prompt acts more strongly with more
guidance towards it, and with words closer to CLIP's space (a smaller lambda of equation (1)). The words still encode
time and view. The two ends were chosen by measurement: `docs/ablation.md`.
"""

from collections.abc import Sequence

import torch

from fourdistill.errors import InputError

TEXT_GUIDANCE = 6.0  # at strength 1
LAMBDA_SHARE = 2 / 3  # of the adapter's own lambda, at strength 1


def check_strength(strength: float) -> None:
    """Raise `InputError` unless the strength is in [0, 1]; other values do not give better guidance."""
    if not 0 <= strength <= 1:
        raise InputError(f"prompt_strength: expected 0 to 1, got {strength}")


def text_guidance_of(prompt: str | Sequence[str | None] | None, strength: float) -> float:
    """The guidance weight towards one or several prompts; 1, which costs nothing, if there is none."""
    check_strength(strength)
    prompts = [prompt] if prompt is None or isinstance(prompt, str) else prompt
    return 1 + (TEXT_GUIDANCE - 1) * strength if any(prompts) else 1.0


def lambdas_of(prompts: Sequence[str | None], strength: float, own: float) -> torch.Tensor:
    """Lambda of B images (B,): the adapter's own, reduced for images with a prompt."""
    check_strength(strength)
    with_prompt = own * (1 - (1 - LAMBDA_SHARE) * strength)
    return torch.tensor([with_prompt if prompt else own for prompt in prompts], dtype=torch.float32)
