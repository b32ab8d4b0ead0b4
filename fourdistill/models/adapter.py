"""The adapter: everything that is trained, and its file format.

An adapter is a folder with `config.json` (an `AdapterConfig`) and `adapter.safetensors`.
"""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from diffusers.models import UNet2DConditionModel
from diffusers.models.embeddings import IPAdapterPlusImageProjection
from diffusers.utils.accelerate_utils import apply_forward_hook  # offloading moves whole models, whatever is called
from torch import nn

from fourdistill.errors import InputError
from fourdistill.models.adapter_config import (
    AdapterConfig,
    AdapterSettings,
    BaseFacts,
    check_base,
    projector_sizes,
    read_config,
)
from fourdistill.models.attention import Conditioning
from fourdistill.models.base import BaseModel
from fourdistill.models.conditions import Conditions
from fourdistill.models.control import ControlTokens, gather_tokens
from fourdistill.models.folder import CONFIG_NAME, load_weights, save_model
from fourdistill.models.image_prompt import DisplacementTokens, ImagePrompt
from fourdistill.models.lora import NAME, inject_lora, remove_lora
from fourdistill.models.mapper import VIEW_ENCODINGS, TimeMapper, ViewMapper
from fourdistill.models.prior import DisplacementPrior
from fourdistill.models.text import combine, encode_single_tokens

WEIGHTS_NAME = "adapter.safetensors"
TRAINABLE = ("mappers", "image_prompt", "displacement_tokens", "lora")  # the groups of parameters


class Adapter(nn.Module):
    """Mappers, image prompt and maybe a prior: conditions and timesteps => `Conditioning` for the frozen U-Net."""

    def __init__(
        self, config: AdapterConfig, unet: UNet2DConditionModel | None = None, generator: torch.Generator | None = None
    ):
        """`unet` is needed where the settings ask for LoRA, whose updates go into it; an earlier adapter's go out."""
        super().__init__()
        self.config = config
        facts, settings = config.base_facts, config.settings
        shared = {
            "sigma_timesteps": settings.sigma_timesteps,
            "sigma_layer": settings.sigma_layer,
            "num_layers": len(facts.layer_names),
            "num_train_timesteps": facts.num_train_timesteps,
            "num_frequencies": settings.num_frequencies,
            "hidden_width": settings.hidden_width,
            "width": facts.text_width,
            "token_std": facts.token_std,
            "rescale_base": settings.rescale_base,
            "generator": generator,
        }
        self.time_mapper = TimeMapper(settings.sigma_time, **shared)
        self.view_mapper = ViewMapper(settings.sigma_view, settings.view_encoding, **shared)
        self.image_prompt = ImagePrompt(
            IPAdapterPlusImageProjection(**config.projector),
            [nn.Linear(facts.cross_attention_dim, width, bias=False) for width in facts.layer_widths],
            [nn.Linear(facts.cross_attention_dim, width, bias=False) for width in facts.layer_widths],
            *self._displacement_tokens(generator),
        )
        self.initialize_weights(generator)
        self.prior = None if config.prior is None else DisplacementPrior(config.prior, generator).requires_grad_(False)
        self.lora = nn.ModuleDict()
        if settings.lora_rank:
            assert unet is not None
            self.lora = inject_lora(unet, settings.lora_rank, generator)
        elif unet is not None and NAME in getattr(unet, "peft_config", {}):
            remove_lora(unet)

    def _displacement_tokens(self, generator: torch.Generator | None) -> list[DisplacementTokens | None]:
        """The modules of time and view, or two None where the settings ask for no displacement tokens."""
        settings, projector = self.config.settings, self.config.projector
        if settings.displacement_tokens == 0:
            return [None, None]
        inputs = ((1, settings.sigma_time), (VIEW_ENCODINGS[settings.view_encoding], settings.sigma_view))
        return [
            DisplacementTokens(
                num_inputs,
                sigma,
                num_tokens=settings.displacement_tokens,
                num_frequencies=settings.num_frequencies,
                width=projector["embed_dims"],
                num_queries=projector["num_queries"],
                query_width=projector["hidden_dims"],
                generator=generator,
            )
            for num_inputs, sigma in inputs
        ]

    def initialize_weights(self, generator: torch.Generator | None = None) -> None:
        """Draw all linear layers from `generator`; the displacement's shift of the queries starts at zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_uniform_(module.weight, a=5**0.5, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for tokens in (self.image_prompt.time_tokens, self.image_prompt.view_tokens):
            if tokens is not None:
                nn.init.zeros_(tokens.to_shift.weight)

    @classmethod
    def from_base(
        cls,
        base: BaseModel,
        settings: AdapterSettings,
        generator: torch.Generator,
        prior: DisplacementPrior | None = None,
    ) -> "Adapter":
        """A new adapter for a base, its image prompt starting from the base's IP-Adapter; a prior stays as it is."""
        if base.ip_adapter is None:
            raise InputError(f"{base.name}: expected a base loaded with its IP-Adapter, to start the image prompt from")
        projector = base.ip_adapter.projector
        sizes, form = projector_sizes(projector), None if prior is None else prior.config
        adapter = cls(AdapterConfig(base.name, BaseFacts.of(base), sizes, settings, form), base.unet, generator)
        if adapter.prior is not None and prior is not None:
            adapter.prior.load_state_dict(prior.state_dict())
        prompt = adapter.image_prompt
        prompt.projector.load_state_dict(projector.state_dict())
        for mine, theirs in ((prompt.to_k_ip, base.ip_adapter.to_k_ip), (prompt.to_v_ip, base.ip_adapter.to_v_ip)):
            mine.load_state_dict(nn.ModuleList(theirs).state_dict())
        return adapter

    @property
    def device(self) -> torch.device:
        """Where the weights are; diffusers pipelines ask every part."""
        return self.image_prompt.projector.latents.device

    @property
    def dtype(self) -> torch.dtype:
        """The weights' type."""
        return self.image_prompt.projector.latents.dtype

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The trained parameters by group, see `TRAINABLE`."""
        tokens = [m for m in (self.image_prompt.time_tokens, self.image_prompt.view_tokens) if m is not None]
        prompt = [self.image_prompt.projector, self.image_prompt.to_k_ip, self.image_prompt.to_v_ip]
        groups = ([self.time_mapper, self.view_mapper], prompt, tokens, [self.lora])
        modules = dict(zip(TRAINABLE, groups, strict=True))
        return {name: [p for module in group for p in module.parameters()] for name, group in modules.items()}

    @apply_forward_hook
    def control_tokens(
        self,
        text_encoder: nn.Module,
        conditions: Conditions,
        timesteps: torch.Tensor,
        lambda_: float | None = None,
        keep: torch.Tensor | None = None,
    ) -> ControlTokens | None:
        """v* of all layers in one pass of the text encoder; None when no sample has a displacement.

        A displacement that no sample has takes no token. Only displacements that are present go through the mappers
        and the text encoder. `keep` (B,): see `Mapper`.
        """
        settings = self.config.settings
        rows: dict[str, torch.Tensor] = {}  # kind => which samples have it, (R,)
        bases, bypasses = [], []  # of those, (R, num_layers, D) each
        for kind, mapper, displacement, has in (
            ("time", self.time_mapper, conditions.delta_time[:, None], conditions.has_time),
            ("view", self.view_mapper, conditions.view, conditions.has_view),
        ):
            present = has.nonzero()[:, 0]
            if len(present):
                kept = None if keep is None else keep[present]
                v_base, v_bypass = mapper(displacement[present], timesteps[present], kept)
                rows[kind] = present
                bases.append(v_base)
                bypasses.append(v_bypass)
        if not rows:
            return None
        base = torch.cat(bases)  # (sum of R, num_layers, D)
        base = encode_single_tokens(text_encoder, base) if settings.clip_base else base
        lambda_ = settings.lambda_ if lambda_ is None else lambda_
        v_star = combine(base, torch.cat(bypasses), lambda_, settings.bypass_norm)  # (sum of R, num_layers, D)
        return gather_tokens(v_star, base if settings.key_value_split else None, rows, len(timesteps))

    def image_tokens(self, conditions: Conditions) -> torch.Tensor:
        """The image prompt's tokens `ip_hidden_states` (B, T, cross_attention_dim); they depend on no timestep."""
        return self.image_prompt(
            conditions.image_embeds,
            conditions.delta_time[:, None],
            conditions.has_time,
            conditions.view,
            conditions.has_view,
        )

    @apply_forward_hook
    def image_keys_values(self, conditions: Conditions) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
        """Keys and values of the image prompt, (B, T, inner width) per layer each."""
        return self.image_prompt.keys_values(self.image_tokens(conditions))

    @apply_forward_hook
    @torch.no_grad()
    def displace(self, conditions: Conditions) -> Conditions:
        """Conditions whose image embeddings are what the prior expects to see after the displacement.

        Single images without any displacement stay as they are, and so do all without a prior. Of several images the
        prior makes one; raises `InputError` where there is none.
        """
        if self.prior is None:
            if conditions.others:
                raise InputError("others: expected no further condition images: this adapter has no displacement prior")
            return conditions
        moved = conditions.has_time | conditions.has_view | bool(conditions.others)  # (B,)
        displaced = self.prior.displace(conditions).to(conditions.image_embeds.dtype)  # (B, S, D)
        embeds = torch.where(moved[:, None, None], displaced, conditions.image_embeds)
        return replace(conditions, image_embeds=embeds, others=())

    def forward(
        self,
        text_encoder: nn.Module,
        prompt_embeds: torch.Tensor,
        conditions: Conditions,
        timesteps: torch.Tensor,
        lambda_: float | None = None,
        keep: torch.Tensor | None = None,
    ) -> Conditioning:
        """prompt_embeds (B, L, D), conditions of B samples, timesteps (B,) => what the U-Net is conditioned on."""
        control = self.control_tokens(text_encoder, conditions, timesteps, lambda_, keep)
        keys, values = self.image_keys_values(conditions)
        if control is None:
            return Conditioning(prompt_embeds, image_keys=keys, image_values=values)
        mask = None if control.mask.all() else control.mask
        return Conditioning(prompt_embeds, control.values, mask, control.keys, keys, values)

    def save(self, folder: Path, training: dict[str, Any] | None = None) -> None:
        """Write `config.json` and `adapter.safetensors`; a killed write leaves no folder that `load` would accept."""
        save_model(folder, self, WEIGHTS_NAME, asdict(replace(self.config, training=training or {})))

    @classmethod
    def load(cls, folder: str | Path, base: BaseModel) -> "Adapter":
        """Read an adapter for `base`; raises `InputError` that says which number differs when it is for another."""
        folder = Path(folder)
        config = read_config(folder / CONFIG_NAME)
        check_base(folder / CONFIG_NAME, config, base)
        adapter = cls(config, base.unet)
        load_weights(adapter, folder / WEIGHTS_NAME)
        return adapter.eval().requires_grad_(False)
