"""The diffusers pipeline: image, prompt, displacement in time, displacement of the camera => image."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.image_processor import VaeImageProcessor
from diffusers.models import AutoencoderKL, UNet2DConditionModel
from numpy.typing import ArrayLike
from PIL import Image
from transformers import (
    CLIPImageProcessor,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
)

from fourdistill.errors import InputError
from fourdistill.geometry.displacement import Displacement
from fourdistill.inference.guidance import Guidance
from fourdistill.inference.inputs import (
    ConditionImage,
    Number,
    as_pictures,
    broadcast,
    conditions_of_rows,
    lay_out_grid,
    lay_out_others,
    warn_of_turns,
    with_displacements,
)
from fourdistill.inference.lora import LoraLoader
from fourdistill.inference.noise import Generators, make_generators, prepare_noise
from fourdistill.inference.options import CALLBACK_TENSORS, SamplingOptions, StepEnd
from fourdistill.inference.prompting import lambdas_of, text_guidance_of
from fourdistill.inference.sampling import Prepared, sample
from fourdistill.inference.saving import find_adapter, save_parts
from fourdistill.inference.schedulers import make_scheduler, set_timesteps
from fourdistill.models.adapter import Adapter
from fourdistill.models.base.model import (
    BaseModel,
    encode_image_prompt,
    encode_null_image,
    load_base,
    vae_scale_factor,
)
from fourdistill.models.base.precision import check_precision
from fourdistill.models.base.text import PromptEncoder, Prompts
from fourdistill.models.settings import AS_TRAINED, Sampling


class FourDistillPipeline(DiffusionPipeline, LoraLoader):
    """Generate what an image shows at another instant, from another camera, or both.

    The U-Net must carry the processors of `models.attention`; `from_pretrained` and `from_parts` see to it.
    """

    model_cpu_offload_seq = "text_encoder->text_encoder_2->image_encoder->adapter->unet->vae"
    _optional_components = ("text_encoder_2", "tokenizer_2")  # of SDXL
    _callback_tensor_inputs = CALLBACK_TENSORS

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
        text_encoder_2: CLIPTextModelWithProjection | None = None,
        tokenizer_2: CLIPTokenizer | None = None,
        force_zeros_for_empty_prompt: bool = False,
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
            text_encoder_2=text_encoder_2,
            tokenizer_2=tokenizer_2,
        )
        self.register_to_config(force_zeros_for_empty_prompt=force_zeros_for_empty_prompt)
        self.vae_scale_factor = vae_scale_factor(vae)
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)
        self._interrupt, self._num_timesteps = False, 0

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        base: str | Path,
        adapter: str | Path | None = None,
        *,
        scheduler: Any = None,
        image_encoder: str | Path | None = None,
        dtype: torch.dtype | None = None,
        **loading: Any,
    ) -> "FourDistillPipeline":
        """Load a base and an adapter, or a pipeline that `save_pretrained` wrote.

        Args:
            base: a local folder in Stable Diffusion layout, or a Hub id.
            adapter: a folder, or `owner/repo` or `owner/repo/folder` on the Hub; None: `adapter/` of the base.
            scheduler: instead of the base's own, a scheduler or the name of one (see `set_scheduler`).
            image_encoder: a CLIP vision tower, a folder or `owner/repo/folder`, for a base that has none.
            dtype: of all parts; None is float32.
            loading: handed on to diffusers for a base on the Hub, such as `revision`, `variant` and `cache_dir`; the
                adapter is fetched with the same `token` and `cache_dir`, its own `adapter/` in the same `revision`.
        """
        folder = find_adapter(str(base), None if adapter is None else str(adapter), **loading)
        encoder = None if image_encoder is None else str(image_encoder)
        kept = {} if dtype is None else {"dtype": dtype}
        loaded = load_base(str(base), with_ip_adapter=False, image_encoder=encoder, **kept, **loading)
        pipe = cls.from_parts(loaded, Adapter.load(folder, loaded), scheduler)
        return pipe if dtype is None else pipe.to(dtype)

    @classmethod
    def from_parts(cls, base: BaseModel, adapter: Adapter, scheduler: Any = None) -> "FourDistillPipeline":
        """A pipeline around models that are loaded already; `scheduler` as in `from_pretrained`."""
        own = type(base.scheduler).from_config(base.scheduler.config)
        pipe = cls(
            base.unet, base.vae, base.text_encoder, base.tokenizer, base.image_encoder, base.feature_extractor,
            own, adapter, base.text_encoder_2, base.tokenizer_2, base.zero_empty_prompt,
        )  # fmt: skip
        if scheduler is not None:
            pipe.set_scheduler(scheduler)
        return pipe

    def save_pretrained(self, save_directory: str | Path, **saving: Any) -> None:  # type: ignore[override]
        """Write all parts in diffusers' layout, the adapter into `adapter/`; weights are safetensors.

        Stock diffusers loads the folder as its plain base. `saving` are options of diffusers' `save_pretrained`, such
        as `max_shard_size`; `push_to_hub` uploads the same files.
        """
        save_parts(self, Path(save_directory), **saving)

    def set_scheduler(self, scheduler: Any) -> None:
        """Sample with another scheduler: any of diffusers', or the name of one, such as `ddim` or `euler-discrete`.

        A name keeps the noise schedule of the present one; raises `InputError` where it is unknown.
        """
        self.scheduler = make_scheduler(self.scheduler, scheduler) if isinstance(scheduler, str) else scheduler

    @property
    def interrupt(self) -> bool:
        """Set `_interrupt` to True in a callback to end the sampling with the step."""
        return self._interrupt

    @property
    def num_timesteps(self) -> int:
        """Calls of the callback in the present or last sampling, over all micro-batches."""
        return self._num_timesteps

    @torch.no_grad()
    def __call__(
        self,
        image: Image.Image | Sequence[Image.Image] | None = None,
        prompt: str | Sequence[str | None] | None = None,
        time: Number | Sequence[Number] = None,
        azimuth: Number | Sequence[Number] = None,
        elevation: Number | Sequence[Number] = None,
        radius: Number | Sequence[Number] = None,
        relative_pose: ArrayLike | Sequence[ArrayLike | None] | None = None,
        seconds: Number | Sequence[Number] = None,
        duration_s: Number | Sequence[Number] = None,
        displacement: Displacement | None = None,
        image_embeds: torch.Tensor | None = None,
        others: Sequence[ConditionImage] = (),
        prompt_strength: float = 1.0,
        lambda_: float | None = None,
        guidance_scale: float | None = None,
        text_guidance: float | None = None,
        image_guidance: float = 1.0,
        time_guidance: float = 1.0,
        view_guidance: float = 1.0,
        guidance_rescale: float = 0.0,
        noise_scale: float | None = None,
        image_scale: float = 1.0,
        negative_prompt: str | Sequence[str | None] | None = None,
        carrier: str = "words",
        num_inference_steps: int = 30,
        num_images_per_prompt: int = 1,
        generator: Generators = None,
        seed: int | Sequence[int] | None = None,
        latents: torch.Tensor | None = None,
        batch_size: int | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., dict[str, Any]] | PipelineCallback | MultiPipelineCallbacks | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> ImagePipelineOutput:
        """Generate one image per entry of the longest list; single values apply to all of them.

        Args:
            image: the condition image(s); None generates without (or from `image_embeds`).
            prompt: text beside the image; None is no prompt.
            time: displacement as a share of the scene, in [-1, 1]: positive leads to a later instant.
            azimuth, elevation: camera displacement in degrees, target minus source; azimuth counter-clockwise from
                above.
            radius: the target camera's distance from the scene's centre over the source's; 1 keeps it.
            relative_pose: 3x4 or 4x4 `source_from_target`, OpenCV axes, translation over the scene's scale; replaces
                the three above. An adapter with `view_encoding: spherical` uses only these three, and logs a camera
                that looks past the scene's centre.
            seconds: replaces `time`: displacement in seconds, with the same sign.
            duration_s: the scene's duration, for `seconds`; adapters trained with the normalizer `seconds` have a span
                of their own and do not need it.
            displacement: replaces all displacement arguments above; one, or a batch of B.
            image_embeds: replaces `image`: (1 or B, S, D) from `encode_image`.
            others: further images of the scene, each with its own displacement to the target; needs a prior.
            prompt_strength: in [0, 1], from "as in the image" to "as in the prompt"; sets `lambda_` and
                `text_guidance` if these are None.
            lambda_: of equation (1); smaller values than the adapter's own give the prompt more influence.
            guidance_scale: guidance away from the prediction without any condition; 1 is none. None: the adapter's own,
                or 1 without an image.
            text_guidance, ...: guidance away from the prediction without this one condition; see `guidance`.
            guidance_rescale: in [0, 1], against oversaturation under strong guidance.
            noise_scale: in [0, 1], of the initial noise: with less, images are more accurate and differ less by seed.
                None: the adapter's own, or 1 without an image.
            image_scale: weight of the image prompt's attention if the carrier is image_prompt.
            negative_prompt: what `guidance_scale` and `text_guidance` lead away from; None is the empty prompt.
            carrier: what passes the prediction to the U-Net: words, or for comparison image_prompt.
            num_images_per_prompt: number of images for each entry; they are neighbours in the output.
            generator: one per image, or one for the whole batch, as in diffusers.
            seed: replaces `generator`; each image has its own generator and does not depend on its batch. One seed
                gives all entries the same noise; the k-th of `num_images_per_prompt` uses seed + k.
            latents: (1 or B, C, h, w), the initial noise.
            batch_size: number of images sampled at a time; shared inputs are encoded once. None: all at once.
            output_type: pil, np, pt or latent.
            return_dict: False returns a tuple.
            callback_on_step_end: called with (pipe, step, timestep, tensors) as in diffusers; steps count on over
                micro-batches, to `num_timesteps`.
            callback_on_step_end_tensor_inputs: of latents, noise_pred and prompt_embeds (branches * B, L, D).

        Raises `InputError` naming the argument and what was expected.
        """
        # 1. Check what holds for all images
        shown = image is not None or image_embeds is not None
        own: Sampling = self.adapter.sampling if shown else AS_TRAINED
        guidance_scale = own.guidance_scale if guidance_scale is None else guidance_scale
        noise_scale = own.noise_scale if noise_scale is None else noise_scale
        text_guidance = text_guidance_of(prompt, prompt_strength) if text_guidance is None else text_guidance
        guidance = Guidance(guidance_scale, text_guidance, image_guidance, time_guidance, view_guidance)
        step_end = callback_on_step_end and StepEnd(callback_on_step_end, callback_on_step_end_tensor_inputs)
        options = SamplingOptions(
            guidance, guidance_rescale, noise_scale, image_scale, prompt_strength, lambda_, carrier,
            num_inference_steps, num_images_per_prompt, batch_size, output_type, step_end,
        )  # fmt: skip
        self.check_inputs(image, image_embeds, others, negative_prompt, guidance)
        # 2. Arguments => one row per image
        rows = self.prepare_rows(
            image, image_embeds, others, num_images_per_prompt, generator, prompt=prompt, time=time, azimuth=azimuth,
            elevation=elevation, radius=radius, relative_pose=relative_pose, seconds=seconds, duration_s=duration_s,
            displacement=displacement, negative_prompt=negative_prompt, seed=seed,
        )  # fmt: skip
        generator = make_generators(generator, rows["seed"], num_images_per_prompt)
        # 3. Prepare timesteps
        set_timesteps(self.scheduler, num_inference_steps, self._execution_device)
        # 4. Encode prompts
        prompts, negatives = self.encode_prompt(rows["prompt"], rows["negative_prompt"])
        # 5. Prepare conditions: images, displacements, and how much the prompt leaves to them
        conditions = conditions_of_rows(rows, len(others), shown)
        null_image = encode_null_image(self.image_encoder, self.adapter.image_prompt.reads_projection)
        prepared = Prepared(prompts, negatives, conditions, self.prepare_lambda(rows["prompt"], options), null_image)
        # 6. Prepare latents
        latents = noise_scale * self.prepare_latents(len(rows["prompt"]), generator, latents)
        # 7. Denoise and decode, some at a time
        images = sample(self, prepared, latents, generator, options)
        # 8. Offload all models
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)  # type: ignore[return-value]

    def sweep(
        self,
        image: Image.Image,
        times: Sequence[Number] | None = None,
        azimuths: Sequence[Number] | None = None,
        elevations: Number | Sequence[Number] = None,
        radii: Number | Sequence[Number] = None,
        *,
        batch_size: int | None = 8,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        **arguments: Any,
    ) -> list[list[Image.Image]]:
        """A grid of images: a row for each camera, a column for each instant, all of them from the same noise.

        Args:
            image: the condition image.
            times: of the columns, as `time` of a call; None: one column without a displacement in time.
            azimuths, elevations, radii: of the rows, as `azimuth` and so on; single values go to all rows. None: one
                row without a displacement of the camera.
            batch_size: images sampled at a time. What they share is encoded once: the image and the prompt.
            generator, seed: of the noise; a cell is what a single call with the same one gives.
            arguments: as of a call, the same for all images.
        """
        if odd := {"num_images_per_prompt", "return_dict"} & arguments.keys():
            raise InputError(f"{min(odd)}: expected none for a sweep, which is one picture a cell")
        cells, num_columns = lay_out_grid(times, azimuth=azimuths, elevation=elevations, radius=radii)
        if seed is None:  # of one generator's state each, that all have the same noise
            seed = None if generator is not None else int(torch.randint(2**31, ()))
        count = len(cells["time"])
        own = None if generator is None else [generator.clone_state() for _ in range(count)]
        images = self(image, **cells, batch_size=batch_size, generator=own, seed=seed, **arguments).images
        return [list(images[start : start + num_columns]) for start in range(0, count, num_columns)]

    def check_inputs(
        self,
        image: Any,
        image_embeds: torch.Tensor | None,
        others: Sequence[ConditionImage],
        negative_prompt: str | Sequence[str | None] | None,
        guidance: Guidance,
    ) -> None:
        """Raise `InputError` if one argument excludes or needs another, or the device cannot use the number format."""
        if negative_prompt is not None and not {"all", "text"} & set(guidance.branches()):
            raise InputError("negative_prompt: expected a guidance_scale or text_guidance other than 1 beside it")
        if others and image is None and image_embeds is None:
            raise InputError("others: expected an image beside them")
        if image is not None and image_embeds is not None:
            raise InputError("image_embeds: expected no image beside it")
        check_precision(self.unet.dtype, self.unet.device)

    def encode_prompt(
        self, prompts: Sequence[str | None], negative_prompts: Sequence[str | None]
    ) -> tuple[Prompts, Prompts]:
        """B prompts each, None for no prompt => their embeddings; each distinct prompt is encoded once."""
        encode = PromptEncoder.of(self, self.config["force_zeros_for_empty_prompt"])
        return encode([text or "" for text in prompts]), encode([text or "" for text in negative_prompts])

    def encode_image(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """N images => image embeddings (N, S, D), which `__call__` takes instead of the images."""
        projected = self.adapter.image_prompt.reads_projection
        return encode_image_prompt(self.image_encoder, self.feature_extractor, as_pictures(images, "image"), projected)

    def prepare_image_embeds(self, image: Any, image_embeds: torch.Tensor | None) -> torch.Tensor:
        """The embeddings of the condition images, or what stands for no image, (1 or B, S, D)."""
        if image is not None:
            image_embeds = self.encode_image(image)
        if image_embeds is None:
            image_embeds = encode_null_image(self.image_encoder, self.adapter.image_prompt.reads_projection)
        return image_embeds.to(self._execution_device, self.unet.dtype)

    def prepare_rows(
        self,
        image: Any,
        image_embeds: torch.Tensor | None,
        others: Sequence[ConditionImage],
        num_images_per_prompt: int,
        generator: Generators,
        **given: Any,
    ) -> dict[str, list]:
        """All arguments that may differ by image, as lists of one length, images as their embeddings."""
        if num_images_per_prompt == 1:  # as many generators as images make a batch, too
            given["generator"] = generator
        image_embeds = self.prepare_image_embeds(image, image_embeds)  # (1 or B, S, D)
        further = lay_out_others(others, lambda images: self.prepare_image_embeds(images, None))
        rows = broadcast(image_embeds=image_embeds, **given, **further)
        rows = {name: [v for v in values for _ in range(num_images_per_prompt)] for name, values in rows.items()}
        displaced = with_displacements(rows, self.adapter.config.settings.max_gap_s)
        if self.adapter.view_encoding == "spherical":
            warn_of_turns(rows)
        return displaced

    def prepare_lambda(self, prompts: Sequence[str | None], options: SamplingOptions) -> torch.Tensor:
        """Lambda of equation (1) for each of B images (B,): as given, or what the strength of the prompts decides."""
        lambda_ = lambdas_of(prompts, options.prompt_strength, self.adapter.config.settings.lambda_)
        return lambda_ if options.lambda_ is None else torch.full_like(lambda_, options.lambda_)

    def prepare_latents(self, num: int, generator: Generators, latents: torch.Tensor | None) -> torch.Tensor:
        """Noise (num, C, h, w), drawn or as given, in the scale that the scheduler starts from."""
        noise = prepare_noise(self.unet, num, generator, latents, self._execution_device)
        return noise * self.scheduler.init_noise_sigma
