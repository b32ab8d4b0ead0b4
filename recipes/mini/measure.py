"""Stage `measure`: measure the packaged base on scenes never trained on, with stock diffusers only.

Writes `base_metrics.json` and two sheets of samples.
"""

import json
import math
import time
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from frames import Frames
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional as F
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
from work import MINI, WORK, load_section

TEXT_GUIDANCE = 4.0


def to_images(pixels: torch.Tensor) -> list[Image.Image]:
    """Pixel values in [-1, 1], (B, 3, H, W) => pictures."""
    array = ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(picture) for picture in array]


def to_pixels(images: list[Image.Image]) -> torch.Tensor:
    """Pictures => pixel values in [-1, 1], (B, 3, H, W)."""
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2) / 127.5 - 1


def sheet(rows: list[list[Image.Image]], path) -> None:
    """Rows of pictures => one picture, with the rows below each other in blocks of eight columns."""
    width, height = rows[0][0].size
    columns = 8
    blocks = math.ceil(len(rows[0]) / columns)
    canvas = Image.new("RGB", (columns * width, blocks * len(rows) * (height + 2)), "white")
    for row_index, row in enumerate(rows):
        for index, image in enumerate(row):
            block, column = divmod(index, columns)
            canvas.paste(image, (column * width, (block * len(rows) + row_index) * (height + 2)))
    canvas.save(path, optimize=True)


class Scorer:
    """Similarity between pictures and captions by the base's own CLIP."""

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe
        self.projection = load_file(MINI / "clip_projection" / "model.safetensors")["text_projection.weight"].float()

    def texts(self, captions: list[str]) -> torch.Tensor:
        """Captions => unit vectors (N, P)."""
        ids = self.pipe.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        return F.normalize(self.pipe.text_encoder(input_ids=ids).pooler_output @ self.projection.T, dim=-1)

    def images(self, images: list[Image.Image]) -> torch.Tensor:
        """Pictures => unit vectors (N, P)."""
        pixel_values = self.pipe.feature_extractor(images, return_tensors="pt").pixel_values
        return F.normalize(self.pipe.image_encoder(pixel_values).image_embeds, dim=-1)


def generate(pipe, batch_size: int, steps: int, guidance_scale: float, **inputs: list) -> list[Image.Image]:
    """Run the stock pipeline in batches over lists of equal length, with one seed per picture."""
    count = len(next(iter(inputs.values())))
    images = []
    for start in range(0, count, batch_size):
        part = {name: values[start : start + batch_size] for name, values in inputs.items()}
        size = len(next(iter(part.values())))
        generators = [torch.Generator().manual_seed(start + index) for index in range(size)]
        images += pipe(**part, num_inference_steps=steps, guidance_scale=guidance_scale, generator=generators).images
    return images


def scene_hits(images: list[Image.Image], chosen: list[int], frames: Frames, candidates: np.ndarray) -> float:
    """How often the real frame nearest to a generated picture, by pixel distance, is from the prompt's scene."""
    real = (frames.pixels[candidates].reshape(len(candidates), -1) / 255).astype(np.float32)  # (M, H * W * 3)
    hits = []
    for image, index in zip(images, chosen, strict=True):
        distance = np.square(real - np.asarray(image, np.float32).reshape(1, -1) / 255).mean(axis=1)  # (M,)
        hits.append(frames.scene[candidates[distance.argmin()]] == frames.scene[index])
    return float(np.mean(hits))


@torch.no_grad()
def main() -> None:
    """Measure the autoencoder, CLIP, text prompts and image prompts."""
    params = load_section("measure")
    frames = Frames.load()
    rng = np.random.default_rng(load_section("seed"))
    val = np.flatnonzero(frames.is_val)
    captions = sorted({int(caption) for caption in frames.caption[val]})
    chosen = [int(rng.choice(val[frames.caption[val] == caption])) for caption in captions][: params["num_samples"]]
    truth = torch.cat([frames.batch(np.array([index])) for index in chosen])
    prompts = [frames.captions[frames.caption[index]] for index in chosen]

    pipe: Any = StableDiffusionPipeline.from_pretrained(MINI)
    pipe.set_progress_bar_config(disable=True)
    scorer = Scorer(pipe)
    labels = torch.arange(len(chosen))
    text = scorer.texts(prompts)

    decoded = pipe.vae(truth).sample.clamp(-1, 1)
    run = {"batch_size": params["batch_size"], "steps": params["num_inference_steps"]}
    from_text = generate(pipe, **run, guidance_scale=TEXT_GUIDANCE, prompt=prompts)
    pipe.load_ip_adapter(
        str(MINI), subfolder="ip_adapter", weight_name="ip-adapter-plus_mini.safetensors", image_encoder_folder=None
    )
    pipe.set_ip_adapter_scale(1.0)
    pipe_inputs = {"prompt": [""] * len(chosen), "ip_adapter_image": to_images(truth)}
    # One by one: stock diffusers would use several pictures as several prompts of each sample.
    from_image = generate(pipe, 1, params["num_inference_steps"], 1.0, **pipe_inputs)

    started = time.perf_counter()
    pipe(prompts[0], ip_adapter_image=to_images(truth)[0], num_inference_steps=30)
    seconds = time.perf_counter() - started

    metrics = {
        "vae.psnr": peak_signal_noise_ratio(decoded, truth, data_range=(-1.0, 1.0), dim=(1, 2, 3)).item(),
        "vae.ssim": float(structural_similarity_index_measure(decoded, truth, data_range=2.0)),  # type: ignore[arg-type]
        "clip.top1": (scorer.images(to_images(truth)) @ text.T).argmax(1).eq(labels).float().mean().item(),
        "text.top1": (scorer.images(from_text) @ text.T).argmax(1).eq(labels).float().mean().item(),
        "image.psnr": peak_signal_noise_ratio(
            to_pixels(from_image), truth, data_range=(-1.0, 1.0), dim=(1, 2, 3)
        ).item(),
        "image.scene_top1": scene_hits(from_image, chosen, frames, val),
        "num_captions": len(chosen),
        "seconds_per_image": seconds,  # text and image prompt, guidance, 30 steps, batch size 1
    }
    out = WORK / "measured"
    out.mkdir(parents=True, exist_ok=True)
    (out / "base_metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    print(json.dumps(metrics, indent=2))
    sheet([to_images(truth)[:16], to_images(decoded)[:16], from_image[:16]], out / "image_prompts.png")
    sheet([to_images(truth)[:16], from_text[:16]], out / "text_prompts.png")


if __name__ == "__main__":
    main()
