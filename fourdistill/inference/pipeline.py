"""The diffusers pipeline: image, prompt, displacement in time, displacement of the camera => image."""

import inspect
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput
from diffusers.image_processor import VaeImageProcessor
from diffusers.models import AutoencoderKL, UNet2DConditionModel
from diffusers.utils.torch_utils import randn_tensor
from numpy.typing import ArrayLike
from PIL import Image
from transformers import CLIPImageProcessor, CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from fourdistill.errors import InputError
from fourdistill.inference.guidance import BranchedConditioning, Guidance, without
from fourdistill.inference.inputs import ConditionImage, Number, broadcast, lay_out_others, make_conditions
from fourdistill.models.adapter import Adapter
from fourdistill.models.attention import Conditioning
from fourdistill.models.base import BaseModel, encode_image_prompt, encode_null_image, load_base
from fourdistill.models.conditions import Conditions
from fourdistill.models.control import ControlTokens
from fourdistill.models.text import PromptEncoder


class FourDistillPipeline(DiffusionPipeline):
    """Generate what an image shows at another instant, from another camera, or both.

    The U-Net must carry the processors of `models.attention`; `from_pretrained` and `from_parts` see to it.
    """

    model_cpu_offload_seq = "text_encoder->image_encoder->adapter->unet->vae"

    def __init__(
        self,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        image_encoder: CLIPVisionModelWithProjection,
        feature_extractor: CLIPImageProcessor,
        scheduler: Any,
        adapter: Adapter,
    ):
        super().__init__()
        self.register_modules(
            unet=unet,
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            image_encoder=image_encoder,
            feature_extractor=feature_extractor,
            scheduler=scheduler,
            adapter=adapter,
        )
        self.vae_scale_factor = 2 ** (len(vae.config["block_out_channels"]) - 1)
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)

    @classmethod
    def from_pretrained(cls, base: str | Path, adapter: str | Path, scheduler: Any = None) -> "FourDistillPipeline":  # type: ignore[override]
        """Load a base (local folder or Hub id) and an adapter's folder; `scheduler` replaces the base's own."""
        loaded = load_base(str(base), with_ip_adapter=False)
        return cls.from_parts(loaded, Adapter.load(adapter, loaded), scheduler)

    @classmethod
    def from_parts(cls, base: BaseModel, adapter: Adapter, scheduler: Any = None) -> "FourDistillPipeline":
        """A pipeline around models that are loaded already."""
        return cls(
            base.unet, base.vae, base.text_encoder, base.tokenizer, base.image_encoder, base.feature_extractor,
            scheduler or type(base.scheduler).from_config(base.scheduler.config), adapter,
        )  # fmt: skip

    @torch.no_grad()
    def __call__(
        self,
        image: Image.Image | Sequence[Image.Image] | None = None,
        prompt: str | Sequence[str] | None = None,
        time: Number | Sequence[Number] = None,
        azimuth: Number | Sequence[Number] = None,
        elevation: Number | Sequence[Number] = None,
        radius: Number | Sequence[Number] = None,
        relative_pose: ArrayLike | Sequence[ArrayLike] | None = None,
        image_embeds: torch.Tensor | None = None,
        others: Sequence[ConditionImage] = (),
        lambda_: float | None = None,
        guidance_scale: float = 1.0,
        text_guidance: float = 1.0,
        image_guidance: float = 1.0,
        time_guidance: float = 1.0,
        view_guidance: float = 1.0,
        guidance_rescale: float = 0.0,
        image_scale: float = 1.0,
        truncation: int | None = None,
        num_inference_steps: int = 30,
        generator: torch.Generator | list[torch.Generator] | None = None,
        output_type: str = "pil",
    ) -> ImagePipelineOutput:
        """Generate one image per entry of the longest list; single values go to all of them.

        Args:
            image: the condition image(s); None generates without (or from `image_embeds`).
            prompt: text beside the displacement; None is no prompt.
            time: displacement d in [-1, 1] as `normalized_gap`: positive leads back to an earlier instant.
            azimuth, elevation: camera displacement in degrees, target minus source.
            radius: difference of the distance to the scene's centre, over the scene's scale.
            relative_pose: 3x4 or 4x4 `source_from_target` instead of the three above.
            image_embeds: (1 or B, S, D) from `encode_image`, instead of `image`.
            others: further images of what is to be drawn, each with its own displacement; needs a prior.
            lambda_: of equation (1); None takes the adapter's.
            guidance_scale: away from the prediction without any condition; 1 is none.
            text_guidance, ...: away from the prediction without that condition alone; see `guidance`.
            guidance_rescale: in [0, 1], against oversaturation under strong guidance.
            image_scale: s of the decoupled attention.
            truncation: keep this many of the mappers' hidden units, for adapters trained with nested dropout.
            generator: one for the batch, or one per image, which makes an image independent of its batch.
            output_type: pil, np, pt or latent.
        """
        guidance = Guidance(guidance_scale, text_guidance, image_guidance, time_guidance, view_guidance)
        inputs = self.prepare_inputs(
            image, image_embeds, others, prompt=prompt, time=time, azimuth=azimuth, elevation=elevation, radius=radius,
            relative_pose=relative_pose, generator=generator,
        )  # fmt: skip
        if isinstance(generator, list) and len(generator) == 1:
            generator = generator[0]
        self.scheduler.set_timesteps(num_inference_steps, device=self._execution_device)
        latents = self.prepare_latents(len(inputs["prompt"]), generator)  # (B, C, h, w)
        conditions = make_conditions(inputs, len(others), self.adapter.config.settings.view_encoding)
        # v* of every timestep and layer in one pass; the branches of guidance only mask it.
        control = self.prepare_control(conditions, lambda_, truncation)
        shown = image is not None or image_embeds is not None
        branches = self.prepare_branches(inputs["prompt"], conditions, guidance.branches(), shown)
        conditioning = self.prepare_conditioning(*branches, control, guidance.branches(), image_scale)
        latents = self.denoise(latents, conditioning, guidance, guidance_rescale, generator)
        images = self.decode(latents, output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images)

    def encode_image(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """N images => image embeddings (N, S, D), which `__call__` takes instead of the images."""
        return encode_image_prompt(self.image_encoder, self.feature_extractor, list(images))

    def prepare_image_embeds(self, image: Any, image_embeds: torch.Tensor | None) -> torch.Tensor:
        """The embeddings of the condition images, or what stands for no image, (1 or B, S, D)."""
        if image is not None and image_embeds is not None:
            raise InputError("image_embeds: expected no image beside it")
        if image is not None:
            image_embeds = self.encode_image([image] if isinstance(image, Image.Image) else image)
        if image_embeds is None:
            image_embeds = encode_null_image(self.image_encoder)
        return image_embeds.to(self._execution_device, self.unet.dtype)

    def prepare_inputs(
        self, image: Any, image_embeds: torch.Tensor | None, others: Sequence[ConditionImage], **given: Any
    ) -> dict[str, list]:
        """All arguments that may differ by sample, as lists of one length, images as their embeddings."""
        if others and image is None and image_embeds is None:
            raise InputError("others: expected an image beside them")
        image_embeds = self.prepare_image_embeds(image, image_embeds)  # (1 or B, S, D)
        further = lay_out_others(others, lambda images: self.prepare_image_embeds(images, None))
        return broadcast(image_embeds=image_embeds, **given, **further)

    def prepare_control(
        self, conditions: Conditions, lambda_: float | None, truncation: int | None
    ) -> ControlTokens | None:
        """v* of all timesteps and layers at once, (S * B, num_layers, n, D), the samples of a timestep together."""
        timesteps = self.scheduler.timesteps  # (S,)
        num_steps, batch_size = len(timesteps), len(conditions.has_time)
        displacements = replace(conditions, image_embeds=conditions.image_embeds[:, :0], others=())  # not for v*
        repeated = displacements[torch.arange(batch_size, device=timesteps.device).repeat(num_steps)]
        repeated_timesteps = timesteps.repeat_interleave(batch_size)  # (S * B,)
        keep = None if truncation is None else torch.full_like(repeated_timesteps, truncation)
        return self.adapter.control_tokens(self.text_encoder, repeated, repeated_timesteps, lambda_, keep)

    def prepare_branches(
        self,
        prompts: Sequence[str | None],
        conditions: Conditions,
        branches: Sequence[str],
        shown: bool,
    ) -> tuple[torch.Tensor, Conditions]:
        """Prompts and conditions of all branches of guidance, one branch after the other, images displaced if shown."""
        encode = PromptEncoder(self.tokenizer, self.text_encoder)
        prompt_embeds, empty = encode([prompt or "" for prompt in prompts]), encode([""])  # (B, L, D), (1, L, D)
        null_image = encode_null_image(self.image_encoder)
        texts, parts = [], []
        for branch in branches:
            texts.append(empty.expand_as(prompt_embeds) if branch in ("all", "text") else prompt_embeds)
            part = without(conditions, branch, null_image)
            parts.append(self.adapter.displace(part) if shown and branch not in ("all", "image") else part)
        return torch.cat(texts), Conditions.cat(parts)

    def prepare_conditioning(
        self,
        prompt_embeds: torch.Tensor,
        conditions: Conditions,
        control: ControlTokens | None,
        branches: Sequence[str],
        image_scale: float,
    ) -> BranchedConditioning:
        """What the U-Net is conditioned on: the part that no timestep changes, and v* for all of them."""
        keys, values = self.adapter.image_prompt.keys_values(self.adapter.image_tokens(conditions))
        fixed = Conditioning(prompt_embeds, image_keys=keys, image_values=values, image_scale=image_scale)
        return BranchedConditioning(fixed, control, branches)

    def prepare_latents(
        self, batch_size: int, generator: torch.Generator | list[torch.Generator] | None
    ) -> torch.Tensor:
        """Noise (B, C, h, w) at the scheduler's first level."""
        size = self.unet.config["sample_size"]
        shape = (batch_size, self.unet.config["in_channels"], size, size)
        noise = randn_tensor(shape, generator=generator, device=self._execution_device, dtype=self.unet.dtype)
        return noise * self.scheduler.init_noise_sigma

    def denoise(
        self,
        latents: torch.Tensor,
        conditioning: BranchedConditioning,
        guidance: Guidance,
        guidance_rescale: float,
        generator: Any,
    ) -> torch.Tensor:
        """Noise (B, C, h, w) => latents (B, C, h, w), all branches of guidance in one call of the U-Net a step."""
        branches, timesteps = conditioning.branches, self.scheduler.timesteps
        # Only some schedulers' `step` takes a generator.
        extra = {"generator": generator} if "generator" in inspect.signature(self.scheduler.step).parameters else {}
        with self.progress_bar(total=len(timesteps)) as progress_bar:  # pyright: ignore[reportCallIssue]
            for t, conditioning_t in zip(timesteps, conditioning.steps(len(timesteps)), strict=True):
                model_input = self.scheduler.scale_model_input(torch.cat([latents] * len(branches)), t)
                noise_pred = self.unet(model_input, t, encoder_hidden_states=conditioning_t).sample
                predictions = dict(zip(branches, noise_pred.chunk(len(branches)), strict=True))
                noise_pred = guidance.combine(predictions, guidance_rescale)
                latents = self.scheduler.step(noise_pred, t, latents, **extra).prev_sample
                progress_bar.update()
        return latents

    def decode(self, latents: torch.Tensor, output_type: str) -> Any:
        """Scaled latents (B, C, h, w) => images as `output_type`."""
        if output_type == "latent":
            return latents
        pixels = self.vae.decode(latents / self.vae.config["scaling_factor"], return_dict=False)[0]  # (B, 3, H, W)
        return self.image_processor.postprocess(pixels, output_type=output_type)
