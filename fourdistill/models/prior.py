"""The displacement prior: what frame j shows, and a displacement => what frame i shows, as image embeddings.

A diffusion prior (DALL-E 2: Ramesh et al., arXiv 2204.06125, section 2.2) in the codes of `models.codec`. What a
subject looks like after a displacement is uncertain. A regression answers with the mean of all possibilities, which a
frozen base draws as a smear; a sample is one of them, and is drawn like the picture of a subject.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler
from diffusers.models.embeddings import get_timestep_embedding
from torch import nn

from fourdistill.errors import InputError
from fourdistill.models.codec import FIRST_STD, EmbeddingCodec
from fourdistill.models.conditions import Conditions
from fourdistill.models.folder import CONFIG_NAME, load_weights, save_model
from fourdistill.models.fourier import FourierFeatures
from fourdistill.models.mapper import VIEW_ENCODINGS

WEIGHTS_NAME = "prior.safetensors"
TIMESTEP_WIDTH = 64


@dataclass(frozen=True)
class PriorConfig:
    """The form of a prior: of its embeddings, its network, and how it is sampled."""

    num_tokens: int  # S of the image embeddings
    embeds_width: int  # D of the image embeddings
    num_components: int  # K of the codes
    view_encoding: str = "spherical"  # of `encode_view`
    width: int = 768
    depth: int = 3  # residual blocks
    dropout: float = 0.0
    num_frequencies: int = 64
    sigma_time: float = 6.0  # as in `AdapterSettings`
    sigma_view: float = 2.0
    num_inference_steps: int = 8


class DisplacementPrior(nn.Module):
    """Noisy codes of frame i, codes of frame j, displacement => clean codes of frame i."""

    def __init__(self, config: PriorConfig, generator: torch.Generator | None = None):
        super().__init__()
        self.config = config
        self.codec = EmbeddingCodec(config.num_tokens, config.embeds_width, config.num_components)
        self.schedule: Any = DDIMScheduler(
            beta_schedule="squaredcos_cap_v2", prediction_type="sample", clip_sample=False
        )
        num_view = VIEW_ENCODINGS[config.view_encoding]
        self.time_features = FourierFeatures([config.sigma_time], config.num_frequencies, generator)
        self.view_features = FourierFeatures([config.sigma_view] * num_view, config.num_frequencies, generator)
        num_inputs = 2 * config.num_components + TIMESTEP_WIDTH + 2  # noisy code, source's code, timestep, has_*
        self.project_in = nn.Linear(num_inputs + self.time_features.width + self.view_features.width, config.width)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(config.width),
                nn.Linear(config.width, 2 * config.width),
                nn.SiLU(),
                nn.Dropout(config.dropout),
                nn.Linear(2 * config.width, config.width),
            )
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width)
        self.project_out = nn.Linear(config.width, config.num_components)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_uniform_(module.weight, a=5**0.5, generator=generator)
                nn.init.zeros_(module.bias)

    @property
    def num_train_timesteps(self) -> int:
        """T of the prior's own noise schedule."""
        return self.schedule.config["num_train_timesteps"]

    def forward(self, noisy: torch.Tensor, timesteps: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        """noisy (B, K), timesteps (B,), conditions whose image_embeds are codes (B, K) => clean codes (B, K)."""
        has_time = conditions.has_time[:, None].to(noisy)  # (B, 1)
        has_view = conditions.has_view[:, None].to(noisy)  # (B, 1)
        inputs = [
            noisy,
            get_timestep_embedding(timesteps, TIMESTEP_WIDTH).to(noisy),
            conditions.image_embeds,
            self.time_features(conditions.delta_time[:, None]) * has_time,
            self.view_features(conditions.view) * has_view,
            has_time,
            has_view,
        ]
        hidden = self.project_in(torch.cat(inputs, dim=-1))  # (B, width)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return FIRST_STD * self.project_out(self.norm(hidden))

    @torch.no_grad()
    def sample_codes(self, conditions: Conditions, noise: torch.Tensor) -> torch.Tensor:
        """Conditions whose image_embeds are codes (B, K), noise (B, K) => codes of what is seen afterwards (B, K)."""
        schedule: Any = DDIMScheduler.from_config(self.schedule.config)
        schedule.set_timesteps(self.config.num_inference_steps, device=noise.device)
        codes = noise
        for t in schedule.timesteps:
            clean = self(codes, t.expand(len(codes)), conditions)
            codes = schedule.step(clean, t, codes).prev_sample
        return codes

    def save(self, folder: Path, training: dict[str, Any] | None = None) -> None:
        """Write `config.json` and `prior.safetensors`."""
        save_model(folder, self, WEIGHTS_NAME, {"config": asdict(self.config), "training": training or {}})

    @classmethod
    def load(cls, folder: Path) -> "DisplacementPrior":
        """Read what `save` wrote; raises `InputError` naming the file."""
        path = folder / CONFIG_NAME
        try:
            prior = cls(PriorConfig(**json.loads(path.read_text(encoding="utf-8"))["config"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: expected the configuration of a displacement prior: {error}") from error
        load_weights(prior, folder / WEIGHTS_NAME)
        return prior.eval()
