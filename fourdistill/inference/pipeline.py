"""The diffusers pipeline: image, prompt, displacement in time, displacement of the camera => image."""

import inspect
from collections.abc import Sequence
from dataclasses import fields, replace
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
from fourdistill.inference.displacement import ConditionImage, Number, broadcast, view_displacement
from fourdistill.inference.guidance import BranchedConditioning, Guidance, without
from fourdistill.models.adapter import Adapter
from fourdistill.models.attention import Conditioning
from fourdistill.models.base import BaseModel, encode_image_prompt, encode_null_image, load_base
from fourdistill.models.conditions import Conditions
from fourdistill.models.control import ControlTokens
from fourdistill.models.mapper import encode_view
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
        # 1. Check the inputs and lay them out as lists of one length.
        shown = image is not None or image_embeds is not None
        image_embeds = self.prepare_image_embeds(image, image_embeds)  # (1 or B, S, D)
        if others and not shown:
            raise InputError("others: expected an image beside them")
        inputs = broadcast(
            image_embeds=image_embeds, prompt=prompt, time=time, azimuth=azimuth, elevation=elevation, radius=radius,
            relative_pose=relative_pose, generator=generator, **self.prepare_others(others),
        )  # fmt: skip
        batch_size, device = len(inputs["prompt"]), self._execution_device

        # 2. Encode the prompts, and bring images and displacements together.
        prompts = ["" if p is None else p for p in inputs["prompt"]]
        prompt_embeds = PromptEncoder(self.tokenizer, self.text_encoder)(prompts)  # (B, L, D)
        further = [self.prepare_conditions(inputs, prefix=f"others[{k}].") for k in range(len(others))]
        conditions = replace(self.prepare_conditions(inputs), others=tuple(further))
        if isinstance(generator, list) and len(generator) == 1:
            generator = generator[0]

        # 3. Prepare timesteps and latents.
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        timesteps = self.scheduler.timesteps  # (S,)
        latents = self.prepare_latents(batch_size, generator)  # (B, C, h, w)

        # 4. Prepare the conditioning of all steps and branches: v* of every timestep and layer in one pass.
        guidance = Guidance(guidance_scale, text_guidance, image_guidance, time_guidance, view_guidance)
        branches = guidance.branches()
        control = self.prepare_control(conditions, timesteps, lambda_, truncation)
        prompt_embeds, conditions = self.prepare_branches(prompt_embeds, conditions, branches, shown)
        conditioning = self.prepare_conditioning(prompt_embeds, conditions, control, branches, image_scale)

        # 5. Denoise, all branches of guidance in one call.
        extra = self.prepare_extra_step_kwargs(generator)
        with self.progress_bar(total=len(timesteps)) as progress_bar:  # pyright: ignore[reportCallIssue]
            for t, conditioning_t in zip(timesteps, conditioning.steps(len(timesteps)), strict=True):
                model_input = self.scheduler.scale_model_input(torch.cat([latents] * len(branches)), t)
                noise_pred = self.unet(model_input, t, encoder_hidden_states=conditioning_t).sample
                predictions = dict(zip(branches, noise_pred.chunk(len(branches)), strict=True))
                noise_pred = guidance.combine(predictions, guidance_rescale)
                latents = self.scheduler.step(noise_pred, t, latents, **extra).prev_sample
                progress_bar.update()

        # 6. Decode.
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

    def prepare_others(self, others: Sequence[ConditionImage]) -> dict[str, Any]:
        """Inputs of further condition images under names of their own, images as embeddings."""
        inputs = {}
        for k, other in enumerate(others):
            given = {field.name: getattr(other, field.name) for field in fields(other)}
            given["image_embeds"] = self.prepare_image_embeds(given.pop("image"), None)  # (1 or B, S, D)
            inputs |= {f"others[{k}].{name}": value for name, value in given.items()}
        return inputs

    def prepare_conditions(self, inputs: dict[str, list], prefix: str = "") -> Conditions:
        """Everything that a batch is conditioned on beside the prompt, absent entries masked; `prefix` of the names."""
        inputs = {name.removeprefix(prefix): value for name, value in inputs.items() if name.startswith(prefix)}
        image_embeds = torch.stack(inputs["image_embeds"])  # (B, S, D)
        kwargs: dict[str, Any] = {"device": image_embeds.device, "dtype": image_embeds.dtype}
        names = ("azimuth", "elevation", "radius", "relative_pose")
        views = [view_displacement(*row) for row in zip(*(inputs[name] for name in names), strict=True)]
        delta = torch.tensor([[0.0] * 3 if view is None else view[0].tolist() for view in views], **kwargs)
        pose = torch.tensor([[0.0] * 12 if view is None else view[1].tolist() for view in views], **kwargs)
        return Conditions(
            image_embeds=image_embeds,
            delta_time=torch.tensor([0.0 if time is None else time for time in inputs["time"]], **kwargs),
            has_time=torch.tensor([time is not None for time in inputs["time"]], device=image_embeds.device),
            view=encode_view(delta, pose, self.adapter.config.settings.view_encoding),
            has_view=torch.tensor([view is not None for view in views], device=image_embeds.device),
        )

    def prepare_control(
        self, conditions: Conditions, timesteps: torch.Tensor, lambda_: float | None, truncation: int | None
    ) -> ControlTokens | None:
        """v* of all timesteps and layers at once, (S * B, num_layers, n, D), the samples of a timestep together."""
        num_steps, batch_size = len(timesteps), len(conditions.has_time)
        displacements = replace(conditions, image_embeds=conditions.image_embeds[:, :0], others=())  # not for v*
        repeated = displacements[torch.arange(batch_size, device=timesteps.device).repeat(num_steps)]
        repeated_timesteps = timesteps.repeat_interleave(batch_size)  # (S * B,)
        keep = None if truncation is None else torch.full_like(repeated_timesteps, truncation)
        return self.adapter.control_tokens(self.text_encoder, repeated, repeated_timesteps, lambda_, keep)

    def prepare_branches(
        self,
        prompt_embeds: torch.Tensor,
        conditions: Conditions,
        branches: Sequence[str],
        shown: bool,
    ) -> tuple[torch.Tensor, Conditions]:
        """Prompts and conditions of all branches of guidance, one branch after the other, images displaced if shown."""
        empty = PromptEncoder(self.tokenizer, self.text_encoder)([""]).expand_as(prompt_embeds)
        null_image = encode_null_image(self.image_encoder)
        prompts, parts = [], []
        for branch in branches:
            prompts.append(empty if branch in ("all", "text") else prompt_embeds)
            part = without(conditions, branch, null_image)
            parts.append(self.adapter.displace(part) if shown and branch not in ("all", "image") else part)
        return torch.cat(prompts), Conditions.cat(parts)

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

    def prepare_extra_step_kwargs(self, generator: Any) -> dict[str, Any]:
        """The scheduler's `step` takes a generator only in some schedulers."""
        takes = inspect.signature(self.scheduler.step).parameters
        return {"generator": generator} if "generator" in takes else {}

    def decode(self, latents: torch.Tensor, output_type: str) -> Any:
        """Scaled latents (B, C, h, w) => images as `output_type`."""
        if output_type == "latent":
            return latents
        pixels = self.vae.decode(latents / self.vae.config["scaling_factor"], return_dict=False)[0]  # (B, 3, H, W)
        return self.image_processor.postprocess(pixels, output_type=output_type)
