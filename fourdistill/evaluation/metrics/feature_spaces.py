"""The spaces in which images are compared: pixels, VAE latents, and CLIP features of the image encoder.

Distances are Euclidean in each. No space is sufficient by itself: pixels and latents capture where things are, CLIP
captures what they are. A result that holds in all three does not depend on one of them. If a second opinion is
requested, a network that this project did not train provides a fourth space.
"""

from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.models import AutoencoderKL
from PIL import Image
from torch.nn import functional as F
from tqdm import tqdm
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from fourdistill.errors import InputError
from fourdistill.evaluation.metrics.image_metrics import to_tensor
from fourdistill.evaluation.metrics.second_opinion import SPACE as EFFICIENTNET
from fourdistill.evaluation.metrics.second_opinion import SecondOpinion
from fourdistill.evaluation.protocol.frames import fit
from fourdistill.models.base.model import encode_latents, vae_scale_factor
from fourdistill.models.base.precision import autocast

SPACES = ("pixels", "latents", "clip")  # available for every base


class FeatureSpaces:
    """Images => their features in every space, computed with the parts of a base."""

    def __init__(
        self,
        vae: AutoencoderKL,
        image_encoder: CLIPVisionModelWithProjection,
        feature_extractor: CLIPImageProcessor,
        size: int,
        batch_size: int = 32,
        second_opinion: SecondOpinion | None = None,
    ):
        """`size` is the base's image size in pixels; all images are resized to it."""
        self.second_opinion = second_opinion
        self.names = SPACES if second_opinion is None else (*SPACES, EFFICIENTNET)
        self.vae, self.image_encoder, self.feature_extractor = vae, image_encoder, feature_extractor
        self.size, self.batch_size = size, batch_size

    def check(self, space: str, where: str) -> None:
        """Raise `InputError`, naming the option `where`, unless the space is one of `names`."""
        if space not in self.names:
            hint = "; efficientnet is one with a second opinion" if space == EFFICIENTNET else ""
            raise InputError(f"{where}: expected one of {', '.join(self.names)}, found {space!r}{hint}")

    def __call__(self, images: Iterable[Image.Image], total: int, description: str) -> dict[str, np.ndarray]:
        """`total` images, read lazily => per space (N, D) float32; CLIP and EfficientNet features have length 1."""
        found: dict[str, list[np.ndarray]] = {space: [] for space in self.names}
        batch: list[Image.Image] = []
        for number, image in enumerate(tqdm(images, total=total, desc=description, unit="image"), start=1):
            batch.append(fit(image, self.size))
            if len(batch) == self.batch_size or number == total:
                for space, features in self.encode(batch).items():
                    found[space].append(features)
                batch = []
        return {space: np.concatenate(parts) for space, parts in found.items()}

    @torch.no_grad()
    def encode(self, images: Sequence[Image.Image]) -> dict[str, np.ndarray]:
        """One batch of images of the base's size => per space (B, D) float32."""
        encoder: Any = self.image_encoder
        pixel_values = self.feature_extractor(images=list(images), return_tensors="pt").pixel_values  # (B, 3, h, w)
        with autocast("auto", encoder.device):
            latents = encode_latents(self.vae, list(images))  # (B, C, h, w)
            clip = encoder(pixel_values.to(encoder.device, encoder.dtype)).image_embeds  # (B, P)
        pixels = np.stack([np.asarray(image) for image in images]).astype(np.float32) / 255  # (B, H, W, 3)
        features = {
            "pixels": pixels.reshape(len(images), -1),
            "latents": latents.flatten(1).float().cpu().numpy(),
            "clip": F.normalize(clip.float(), dim=-1).cpu().numpy(),
        }
        if self.second_opinion is not None:
            features[EFFICIENTNET] = self.second_opinion.places(to_tensor(images))
        return features

    @torch.no_grad()
    def reconstruct(self, images: Sequence[Image.Image]) -> list[Image.Image]:
        """Encode images with the VAE and decode them. No model that uses this VAE can come closer to the images."""
        processor = VaeImageProcessor(vae_scale_factor=vae_scale_factor(self.vae))
        reconstructed: list[Image.Image] = []
        for start in range(0, len(images), self.batch_size):
            latents = encode_latents(self.vae, list(images[start : start + self.batch_size]))  # (B, C, h, w), scaled
            pixels = self.vae.decode(latents / self.vae.config["scaling_factor"], return_dict=False)[0]  # (B, 3, H, W)
            reconstructed += cast(list, processor.postprocess(pixels, output_type="pil"))
        return reconstructed
