"""The adapter: prior and mapper, the image prompt that they go with, and their file format.

An adapter is a folder with `config.json` (an `AdapterConfig`) and `adapter.safetensors`.
"""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from diffusers.models.embeddings import IPAdapterPlusImageProjection
from diffusers.utils.accelerate_utils import apply_forward_hook  # offloading moves whole models, whatever is called
from safetensors.torch import load_file
from torch import nn

from fourdistill.errors import InputError
from fourdistill.models.adapter_config import (
    FORMAT_VERSION,
    AdapterConfig,
    AdapterSettings,
    BaseFacts,
    check_base,
    projector_sizes,
    read_config,
)
from fourdistill.models.attention import Conditioning
from fourdistill.models.base.model import BaseModel
from fourdistill.models.conditions import Conditions
from fourdistill.models.folder import CONFIG_NAME, load_weights, save_model
from fourdistill.models.image_prompt import ImagePrompt
from fourdistill.models.mapper import Mapper
from fourdistill.models.prior import DisplacementPrior
from fourdistill.models.variants.displacement_mapper import DisplacementMapper
from fourdistill.models.words import Words, say

WEIGHTS_NAME = "adapter.safetensors"
CARRIERS = ("words", "image_prompt")  # of what frame i looks like to the U-Net
# What decides a mapper's form: the first two any, all of them one that is told the displacement alone.
MAPPER_FORM = (
    "mapper_input", "num_words", "view_encoding", "num_frequencies", "hidden_width", "sigma_time", "sigma_view",
    "sigma_timesteps", "sigma_layer",
)  # fmt: skip


class Adapter(nn.Module):
    """Prior, mapper and image prompt: conditions and timesteps => `Conditioning` for the frozen U-Net.

    What a displacement does to frame j is foreseen by the prior and put into words by the mapper; or, for comparison,
    shown to the U-Net by the image prompt of its base (`carrier`). Without a prior (`mapper_input: displacement`) the
    words tell the displacement alone, and the image prompt shows frame j.
    """

    def __init__(self, config: AdapterConfig, generator: torch.Generator | None = None):
        super().__init__()
        self.config = config
        facts, settings = config.base_facts, config.settings
        shared = {
            "num_words": settings.num_words or config.projector["num_queries"],
            "width": facts.text_width,
            "token_std": facts.token_std,
            "generator": generator,
        }
        self.mapper = (
            Mapper(len(facts.layer_names), config.projector["num_queries"], facts.cross_attention_dim, **shared)
            if settings.sees_source
            else DisplacementMapper(
                settings.sigma_time,
                settings.sigma_view,
                settings.view_encoding,
                sigma_timesteps=settings.sigma_timesteps,
                sigma_layer=settings.sigma_layer,
                num_layers=len(facts.layer_names),
                num_train_timesteps=facts.num_train_timesteps,
                num_frequencies=settings.num_frequencies,
                hidden_width=settings.hidden_width,
                **shared,
            )
        )
        self.image_prompt = ImagePrompt(
            IPAdapterPlusImageProjection(**config.projector),
            [nn.Linear(facts.cross_attention_dim, width, bias=False) for width in facts.layer_widths],
            [nn.Linear(facts.cross_attention_dim, width, bias=False) for width in facts.layer_widths],
        )
        self.initialize_weights(generator)
        self.image_prompt.requires_grad_(False)
        self.prior = None if config.prior is None else DisplacementPrior(config.prior, generator).requires_grad_(False)

    def initialize_weights(self, generator: torch.Generator | None = None) -> None:
        """Draw all linear layers from `generator`."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_uniform_(module.weight, a=5**0.5, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @classmethod
    def from_base(
        cls,
        base: BaseModel,
        settings: AdapterSettings,
        generator: torch.Generator,
        prior: DisplacementPrior | None = None,
        pretrained: Path | None = None,
    ) -> "Adapter":
        """A new adapter for a base; a prior stays as it is.

        Its words begin as what the base's IP-Adapter would show, or as those of a `pretrained` adapter's folder. Raises
        `InputError` where there is no IP-Adapter, no prior where one is needed, or the pretrained one does not fit.
        """
        if base.ip_adapter is None:
            raise InputError(f"{base.name}: expected a base loaded with its IP-Adapter, to start the image prompt from")
        if settings.sees_source and prior is None:
            raise InputError("mapper_input: expected a displacement prior for displacement_and_source, found none")
        prior = prior if settings.sees_source else None
        projector = base.ip_adapter.projector
        sizes, form = projector_sizes(projector), None if prior is None else prior.config
        adapter = cls(AdapterConfig(base.name, BaseFacts.of(base), sizes, settings, form), generator)
        if adapter.prior is not None and prior is not None:
            adapter.prior.load_state_dict(prior.state_dict())
        prompt = adapter.image_prompt
        prompt.projector.load_state_dict(projector.state_dict())
        for mine, theirs in ((prompt.to_k_ip, base.ip_adapter.to_k_ip), (prompt.to_v_ip, base.ip_adapter.to_v_ip)):
            mine.load_state_dict(nn.ModuleList(theirs).state_dict())
        if pretrained is not None:
            adapter.start_mapper(pretrained)
        elif isinstance(adapter.mapper, Mapper):
            texts: list[Any] = [base.unet.get_submodule(name) for name in adapter.config.base_facts.layer_names]
            to_k, to_v = [layer.to_k for layer in texts], [layer.to_v for layer in texts]
            adapter.mapper.start_from(base.ip_adapter, to_k, to_v, settings.lambda_ * clip_length(base.text_encoder))
        return adapter

    def start_mapper(self, folder: Path) -> None:
        """Take over the mapper of a trained adapter in `folder`.

        Raises `InputError` where it is of another form, or was trained beside another image prompt.
        """
        theirs, advice = read_config(folder / CONFIG_NAME), "train.start: scratch needs none"
        for name in MAPPER_FORM if self.prior is None else MAPPER_FORM[:2]:
            wanted, found = form_of(self.config, name), form_of(theirs, name)
            if wanted != found:
                raise InputError(
                    f"{folder / CONFIG_NAME}: {name}: expected {wanted} to start from, found {found}; {advice}"
                )
        path = folder / WEIGHTS_NAME
        load_weights(self.mapper, path, prefix="mapper.")
        if theirs.format_version < FORMAT_VERSION and isinstance(self.mapper, DisplacementMapper):
            self.mapper.reverse_time()
        prompt = load_file(path)
        for name, own in self.image_prompt.state_dict().items():
            if not torch.equal(prompt[f"image_prompt.{name}"].half(), own.half()):
                raise InputError(f"{path}: image_prompt: expected the base's, found another; {advice}")

    @property
    def device(self) -> torch.device:
        """Where the weights are; diffusers pipelines ask every part."""
        return self.image_prompt.projector.latents.device

    @property
    def dtype(self) -> torch.dtype:
        """The weights' type."""
        return self.image_prompt.projector.latents.dtype

    @property
    def varies_with_timesteps(self) -> bool:
        """Whether the words of two timesteps differ, so that a sampler has to ask for them at every step."""
        return isinstance(self.mapper, DisplacementMapper)

    @torch.no_grad()
    def expect(self, conditions: Conditions) -> torch.Tensor:
        """The image embeddings (B, S, D) of what is expected to be seen after the displacements.

        Single images without any displacement stay as they are, and so do all without a prior, and what stands for no
        image. Of several images the prior makes one; raises `InputError` where there is no prior.
        """
        if self.prior is None:
            if conditions.others:
                raise InputError("others: expected no further condition images: this adapter has no displacement prior")
            return conditions.image_embeds
        moved = conditions.moved | bool(conditions.others)  # (B,)
        displaced = self.prior.displace(conditions).to(conditions.image_embeds.dtype)  # (B, S, D)
        return torch.where((moved & conditions.has_image)[:, None, None], displaced, conditions.image_embeds)

    @torch.no_grad()
    def foresee(self, conditions: Conditions) -> torch.Tensor:
        """The image tokens (B, T, cross_attention_dim) of what is expected to be seen."""
        return self.image_prompt(self.expect(conditions))

    def forward(
        self,
        text_encoder: nn.Module,
        prompt_embeds: torch.Tensor,
        conditions: Conditions,
        timesteps: torch.Tensor,
        lambda_: float | torch.Tensor | None = None,
        *,
        carrier: str = "words",
        image_scale: float = 1.0,
        tokens: torch.Tensor | None = None,
    ) -> Conditioning:
        """What the U-Net is conditioned on.

        prompt_embeds (B, L, D), conditions of B samples, timesteps (B,); `lambda_` of equation (1) is a number, one a
        sample (B,), or None for the adapter's own. `carrier`: one of `CARRIERS`. `tokens`: what `foresee` gives, where
        it was called before. Raises `InputError` where there is no prior and the carrier is not words.
        """
        if self.prior is None and carrier != "words":
            raise InputError(f"carrier: expected words of an adapter without a displacement prior, got {carrier}")
        tokens = self.foresee(conditions) if tokens is None else tokens
        words = self.words(text_encoder, conditions, timesteps, lambda_, tokens) if carrier == "words" else None
        shows = self.prior is None or carrier == "image_prompt"
        keys, values = self.image_prompt.keys_values(tokens) if shows else ((), ())
        seen = self.spoken_to(conditions)
        return Conditioning(prompt_embeds, words, None if seen.all() else seen, keys, values, image_scale)

    @apply_forward_hook
    def words(
        self,
        text_encoder: nn.Module,
        conditions: Conditions,
        timesteps: torch.Tensor,
        lambda_: float | torch.Tensor | None,
        tokens: torch.Tensor | None = None,
    ) -> Words | None:
        """The words alone, from the same arguments as `forward`; None where no sample has any."""
        if not (self.spoken_to(conditions).any() or self.training):  # a step needs something to go back through
            return None
        if isinstance(self.mapper, DisplacementMapper):
            spoken = self.mapper(conditions, timesteps)
        else:
            spoken = self.mapper(self.foresee(conditions) if tokens is None else tokens)
        return say(text_encoder, spoken, self.config.settings.lambda_ if lambda_ is None else lambda_)

    def spoken_to(self, conditions: Conditions) -> torch.Tensor:
        """Which samples have words (B,): those with an image, or without a prior those with a displacement."""
        return conditions.moved if self.prior is None else conditions.has_image

    def save(self, folder: Path, training: dict[str, Any] | None = None) -> None:
        """Write `config.json` and `adapter.safetensors`; a killed write leaves no folder that `load` would accept."""
        save_model(folder, self, WEIGHTS_NAME, asdict(replace(self.config, training=training or {})))

    @classmethod
    def load(cls, folder: str | Path, base: BaseModel) -> "Adapter":
        """Read an adapter for `base`; raises `InputError` that says which number differs when it is for another."""
        folder = Path(folder)
        config = read_config(folder / CONFIG_NAME)
        check_base(folder / CONFIG_NAME, config, base)
        adapter = cls(replace(config, format_version=FORMAT_VERSION))
        load_weights(adapter, folder / WEIGHTS_NAME)
        if config.format_version < FORMAT_VERSION:
            for part in (adapter.prior, adapter.mapper):
                if isinstance(part, (DisplacementPrior, DisplacementMapper)):
                    part.reverse_time()
        return adapter.eval().requires_grad_(False)


def form_of(config: AdapterConfig, name: str) -> Any:
    """A setting of `MAPPER_FORM`, with the number of words that null stands for."""
    value = getattr(config.settings, name)
    return config.projector["num_queries"] if value is None else value


def clip_length(text_encoder: nn.Module) -> float:
    """|CLIP(v_base)|: what the last layer norm of a text encoder makes of all that goes in."""
    model: Any = getattr(text_encoder, "text_model", text_encoder)
    return float(model.final_layer_norm.weight.norm())
