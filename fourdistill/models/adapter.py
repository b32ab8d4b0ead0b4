"""The adapter: prior, mapper and their image prompt, and the file format.

An adapter is a folder with `config.json` (an `AdapterConfig`) and `adapter.safetensors`.
"""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from diffusers.utils.accelerate_utils import apply_forward_hook  # triggers offloading hooks
from safetensors.torch import load_file
from torch import nn

from fourdistill.errors import InputError
from fourdistill.models.adapter_config import (
    FORMAT_VERSION,
    AdapterConfig,
    AdapterSettings,
    BaseFacts,
    check_base,
    read_config,
)
from fourdistill.models.attention import Conditioning
from fourdistill.models.base.model import BaseModel
from fourdistill.models.base.projectors import build_projector, embeds_width, num_tokens, projector_sizes
from fourdistill.models.base.text import text_encoders_of
from fourdistill.models.conditions import Conditions
from fourdistill.models.folder import CONFIG_NAME, load_weights, save_model
from fourdistill.models.image_prompt import ImagePrompt
from fourdistill.models.mapper import Mapper
from fourdistill.models.prior import DisplacementPrior
from fourdistill.models.settings import Sampling
from fourdistill.models.variants.displacement_mapper import DisplacementMapper
from fourdistill.models.view_encoding import displacement_angles
from fourdistill.models.words import Words, clip_length, say

WEIGHTS_NAME = "adapter.safetensors"
CARRIERS = ("words", "image_prompt")  # how the appearance of frame i reaches the U-Net
# Settings that determine a mapper's architecture: the first three for any mapper, all for a displacement-only one.
MAPPER_FORM = (
    "mapper_input", "num_words", "rank", "view_encoding", "num_frequencies", "hidden_width", "sigma_time", "sigma_view",
    "sigma_timesteps", "sigma_layer",
)  # fmt: skip


class Adapter(nn.Module):
    """Prior, mapper and image prompt: conditions and timesteps => `Conditioning` for the frozen U-Net.

    The prior predicts frame i from frame j and the displacement, and the mapper encodes the prediction as words. For
    comparison, the image prompt of the base can pass the prediction to the U-Net instead (`carrier`). Without a prior
    (`mapper_input: displacement`) the words encode only the displacement, and the image prompt shows frame j.
    """

    def __init__(self, config: AdapterConfig, generator: torch.Generator | None = None):
        super().__init__()
        self.config = config
        facts, settings = config.base_facts, config.settings
        shared = {
            "num_words": settings.num_words or num_tokens(config.projector),
            "width": facts.text_width,
            "token_std": facts.token_std,
            "generator": generator,
        }
        self.mapper = (
            Mapper(
                len(facts.layer_names),
                num_tokens(config.projector),
                facts.cross_attention_dim,
                rank=settings.rank,
                **shared,
            )
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
            build_projector(config.projector),
            [nn.Linear(facts.cross_attention_dim, width, bias=False) for width in facts.layer_widths],
            [nn.Linear(facts.cross_attention_dim, width, bias=False) for width in facts.layer_widths],
        )
        self.initialize_weights(generator)
        self.image_prompt.requires_grad_(False)
        self.prior = None if config.prior is None else DisplacementPrior(config.prior, generator).requires_grad_(False)

    def initialize_weights(self, generator: torch.Generator | None = None) -> None:
        """Initialize all linear layers from `generator`."""
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
        """A new adapter for a base; a given prior is kept unchanged.

        Its words are initialized from the base's IP-Adapter, or from a `pretrained` adapter's folder. Raises
        `InputError` if the IP-Adapter or a required prior is missing, or if the pretrained adapter does not fit.
        """
        if base.ip_adapter is None:
            raise InputError(f"{base.name}: expected a base loaded with its IP-Adapter, to start the image prompt from")
        if settings.sees_source and prior is None:
            raise InputError("mapper_input: expected a displacement prior for displacement_and_source, found none")
        prior = prior if settings.sees_source else None
        projector = base.ip_adapter.projector
        sizes, form = projector_sizes(projector), None if prior is None else prior.config
        if form is not None and form.embeds_width != embeds_width(sizes):
            raise InputError(
                f"prior: expected one of image embeddings of {embeds_width(sizes)}, as the IP-Adapter of {base.name} "
                f"reads, found {form.embeds_width}: was another IP-Adapter there when frames were encoded?"
            )
        adapter = cls(AdapterConfig(base.name, BaseFacts.of(base, sizes), sizes, settings, form), generator)
        if adapter.prior is not None and prior is not None:
            adapter.prior.load_state_dict(prior.state_dict())
        prompt = adapter.image_prompt
        prompt.projector.load_state_dict(projector.state_dict())
        for mine, theirs in ((prompt.to_k_ip, base.ip_adapter.to_k_ip), (prompt.to_v_ip, base.ip_adapter.to_v_ip)):
            mine.load_state_dict(nn.ModuleList(theirs).state_dict())
        if pretrained is not None:
            adapter.start_mapper(pretrained)
            adapter.restore_fixed(base)
        elif isinstance(adapter.mapper, Mapper):
            to_k, to_v = adapter.text_layers(base)
            length = clip_length(text_encoders_of(base), adapter.mapper.word * adapter.mapper.token_std)
            adapter.mapper.start_from(base.ip_adapter, to_k, to_v, settings.lambda_ * length)
        return adapter

    def text_layers(self, base: BaseModel) -> tuple[list[Any], list[Any]]:
        """The text branch's `to_k` and `to_v` of every layer."""
        layers: list[Any] = [base.unet.get_submodule(name) for name in self.config.base_facts.layer_names]
        return [layer.to_k for layer in layers], [layer.to_v for layer in layers]

    def restore_fixed(self, base: BaseModel) -> None:
        """Compute the mapper's fixed weights, which are not saved, if it has any."""
        if isinstance(self.mapper, Mapper) and self.config.settings.rank is not None:
            self.mapper.restore(self.image_prompt.to_k_ip, self.image_prompt.to_v_ip, *self.text_layers(base))

    def start_mapper(self, folder: Path) -> None:
        """Load the mapper of a trained adapter from `folder`.

        Raises `InputError` if its architecture differs or if it was trained with another image prompt.
        """
        theirs, advice = read_config(folder / CONFIG_NAME), "train.start: scratch needs none"
        for name in MAPPER_FORM if self.prior is None else MAPPER_FORM[:3]:
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
        """The device of the weights; diffusers pipelines require this of every component."""
        return next(self.image_prompt.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The data type of the weights."""
        return next(self.image_prompt.parameters()).dtype

    @property
    def sampling(self) -> Sampling:
        """How images are drawn with it unless asked otherwise."""
        return self.config.settings.sampling

    @property
    def view_encoding(self) -> str:
        """How displacements of the camera go in: of the prior, or of words without one."""
        return self.config.settings.view_encoding if self.prior is None else self.prior.config.view_encoding

    @property
    def varies_with_timesteps(self) -> bool:
        """Whether the words depend on the timestep, so that a sampler must recompute them at every step."""
        return isinstance(self.mapper, DisplacementMapper)

    @torch.no_grad()
    def expect(self, conditions: Conditions) -> torch.Tensor:
        """The predicted image embeddings (B, S, D) after the displacements.

        Single images without a displacement, or with one of zero, are unchanged, as are all images without a prior, and
        the null image. The prior fuses several images into one; raises `InputError` if there is no prior.
        """
        if self.prior is None:
            if conditions.others:
                raise InputError("others: expected no further condition images: this adapter has no displacement prior")
            return conditions.image_embeds
        angles = displacement_angles(conditions.displacement, self.prior.config.view_encoding)  # zero where absent
        moved = angles.any(dim=-1) | bool(conditions.others)  # (B,)
        displaced = self.prior.displace(conditions).to(conditions.image_embeds.dtype)  # (B, S, D)
        return torch.where((moved & conditions.has_image)[:, None, None], displaced, conditions.image_embeds)

    @torch.no_grad()
    def foresee(self, conditions: Conditions) -> torch.Tensor:
        """The image tokens (B, T, cross_attention_dim) of the predicted image."""
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
        """The conditioning of the U-Net.

        prompt_embeds (B, L, D), conditions of B samples, timesteps (B,); `lambda_` of equation (1) is a number, one per
        sample (B,), or None for the adapter's own. `carrier`: one of `CARRIERS`. `tokens`: the output of `foresee`, if
        already computed. Raises `InputError` if there is no prior and the carrier is not words.
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
        """Only the words, from the same arguments as `forward`; None if no sample has any."""
        if not (self.spoken_to(conditions).any() or self.training):  # training needs a graph for backward
            return None
        if isinstance(self.mapper, DisplacementMapper):
            spoken = self.mapper(conditions, timesteps)
        else:
            spoken = self.mapper(self.foresee(conditions) if tokens is None else tokens)
        return say(text_encoder, spoken, self.config.settings.lambda_ if lambda_ is None else lambda_)

    def spoken_to(self, conditions: Conditions) -> torch.Tensor:
        """Which samples have words (B,): those with an image or, without a prior, those with a displacement."""
        return conditions.moved if self.prior is None else conditions.has_image

    def save(self, folder: Path, training: dict[str, Any] | None = None) -> None:
        """Write `config.json` and `adapter.safetensors`; `load` rejects the folder of an interrupted write."""
        form = None if self.prior is None else self.prior.config
        save_model(folder, self, WEIGHTS_NAME, asdict(replace(self.config, prior=form, training=training or {})))

    @classmethod
    def load(cls, folder: str | Path, base: BaseModel) -> "Adapter":
        """Read an adapter for `base`; if it is for another base, raises `InputError` naming the value that differs."""
        folder = Path(folder)
        config = read_config(folder / CONFIG_NAME)
        check_base(folder / CONFIG_NAME, config, base)
        adapter = cls(replace(config, format_version=FORMAT_VERSION))
        load_weights(adapter, folder / WEIGHTS_NAME)
        if config.format_version < FORMAT_VERSION:
            for part in (adapter.prior, adapter.mapper):
                if isinstance(part, (DisplacementPrior, DisplacementMapper)):
                    part.reverse_time()
        adapter.restore_fixed(base)
        return adapter.eval().requires_grad_(False)


def form_of(config: AdapterConfig, name: str) -> Any:
    """A setting of `MAPPER_FORM`; a null number of words is resolved."""
    value = getattr(config.settings, name)
    return num_tokens(config.projector) if name == "num_words" and value is None else value
