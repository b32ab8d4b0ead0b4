"""How noise becomes images, in the order in which it happens: branch out, denoise and decode.

The functions take the pipeline, whose parts they run, as their first argument.
"""

import inspect
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from fourdistill.inference.guidance import Guidance, without
from fourdistill.inference.noise import Generators, select
from fourdistill.inference.options import SamplingOptions
from fourdistill.models.attention import Conditioning
from fourdistill.models.base.text import Prompts, text_encoders_of
from fourdistill.models.conditions import Conditions


@dataclass(frozen=True)
class Prepared:
    """What B images are made from, and no noise changes: encoded once, however many micro-batches follow."""

    prompts: Prompts
    negatives: Prompts
    """What guidance goes away from."""
    conditions: Conditions
    lambda_: torch.Tensor
    """(B,), of equation (1)."""
    null_image: torch.Tensor
    """(1, S, D), what stands for no image."""

    def __getitem__(self, rows: slice) -> "Prepared":
        """The same for some of the images."""
        return replace(
            self,
            prompts=self.prompts[rows],
            negatives=self.negatives[rows],
            conditions=self.conditions[rows],
            lambda_=self.lambda_[rows],
        )


@dataclass
class Progress:
    """Steps done, counted on from one micro-batch to the next, and the bar that shows them."""

    bar: Any
    step: int = 0

    def update(self) -> None:
        """One step more."""
        self.step += 1
        self.bar.update()


def sample(
    pipe: Any, prepared: Prepared, latents: torch.Tensor, generator: Generators, options: SamplingOptions
) -> Any:
    """Latents of noise (B, C, h, w) => B images, `batch_size` at a time."""
    per_batch = options.batch_size or len(latents)
    chunks = [slice(start, start + per_batch) for start in range(0, len(latents), per_batch)]
    pipe._interrupt, pipe._num_timesteps = False, len(pipe.scheduler.timesteps) * len(chunks)
    parts = []
    with pipe.progress_bar(total=pipe.num_timesteps) as bar:
        progress = Progress(bar)
        for chunk in chunks:
            pipe.scheduler.set_timesteps(options.num_inference_steps, device=latents.device)  # schedulers have a memory
            drawn = denoise(pipe, latents[chunk], prepared[chunk], select(generator, chunk), options, progress)
            parts.append(decode(pipe, drawn, options.output_type))
    if options.output_type == "pil":
        return [image for part in parts for image in part]
    return np.concatenate(parts) if options.output_type == "np" else torch.cat(parts)


def branch_out(prepared: Prepared, guidance: Guidance) -> Prepared:
    """The branches of guidance, one after the other, each with what it leaves to B images; of (branches * B) rows."""
    branches = guidance.branches()
    texts = [prepared.negatives if name in ("all", "text") else prepared.prompts for name in branches]
    return replace(
        prepared,
        prompts=Prompts.cat(texts),
        conditions=Conditions.cat(without(prepared.conditions, name, prepared.null_image) for name in branches),
        lambda_=torch.cat([prepared.lambda_] * len(branches)),
    )


def denoise(
    pipe: Any,
    latents: torch.Tensor,
    prepared: Prepared,
    generator: Generators,
    options: SamplingOptions,
    progress: Progress,
) -> torch.Tensor:
    """Noise (B, C, h, w) => latents (B, C, h, w), all branches of guidance in one call of the U-Net a step."""
    scheduler, branches, step_end = pipe.scheduler, options.guidance.branches(), options.step_end
    # Only some schedulers' `step` takes a generator.
    extra = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}
    branched = branch_out(prepared, options.guidance)
    timesteps = scheduler.timesteps[:, None].expand(-1, len(branched.lambda_))  # (steps, branches * B)
    added = branched.prompts.added(*(pipe.vae_scale_factor * side for side in latents.shape[2:]))
    conditioning: Conditioning = pipe.adapter(
        text_encoders_of(pipe), branched.prompts.tokens, branched.conditions, timesteps[0], branched.lambda_,
        carrier=options.carrier, image_scale=options.image_scale,
    )  # fmt: skip
    for i, t in enumerate(scheduler.timesteps):
        if pipe.interrupt:
            break
        if i and pipe.adapter.varies_with_timesteps:
            said = (text_encoders_of(pipe), branched.conditions, timesteps[i], branched.lambda_)
            conditioning = replace(conditioning, words=pipe.adapter.words(*said))
        model_input = scheduler.scale_model_input(torch.cat([latents] * len(branches)), t)
        given = {"encoder_hidden_states": conditioning, "added_cond_kwargs": added}
        noise_pred = pipe.unet(model_input, t, **given, return_dict=False)[0]
        predictions = dict(zip(branches, noise_pred.chunk(len(branches)), strict=True))
        noise_pred = options.guidance.combine(predictions, options.guidance_rescale)  # (B, C, h, w)
        latents = scheduler.step(noise_pred, t, latents, **extra, return_dict=False)[0].to(latents.dtype)
        if step_end is not None:
            tensors = {"latents": latents, "noise_pred": noise_pred, "prompt_embeds": conditioning.text}
            replaced = step_end(pipe, progress.step, t, tensors)
            latents, conditioning = replaced["latents"], replace(conditioning, text=replaced["prompt_embeds"])
        progress.update()
    return latents


def decode(pipe: Any, latents: torch.Tensor, output_type: str) -> Any:
    """Scaled latents (B, C, h, w) => images as `output_type`."""
    if output_type == "latent":
        return latents
    # SDXL's VAE overflows in fp16.
    upcast = pipe.text_encoder_2 is not None and pipe.vae.dtype == torch.float16 and pipe.vae.config["force_upcast"]
    if upcast:
        pipe.vae.to(torch.float32)
    latents = latents.to(pipe.vae.dtype) / pipe.vae.config["scaling_factor"]
    with torch.autocast(latents.device.type, enabled=False):  # of a training, whose pictures these may be
        pixels = pipe.vae.decode(latents, return_dict=False)[0]  # (B, 3, H, W)
    if upcast:
        pipe.vae.to(torch.float16)
    return pipe.image_processor.postprocess(pixels, output_type=output_type)
