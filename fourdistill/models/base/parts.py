"""Loading the parts of a checked base: from the folder of each, or from one checkpoint file."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.loaders.single_file_utils import SingleFileComponentError
from diffusers.models import AutoencoderKL, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from transformers import (
    CLIPImageProcessor,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionModelWithProjection,
)
from transformers.utils import logging as transformers_logging

from fourdistill.models.base.find import Found, FoundBase
from fourdistill.models.base.folder import is_xl

LOADERS: dict[str, Any] = {  # for the parts that have weights
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
    "image_encoder": CLIPVisionModelWithProjection,
}
_OPTIONS, _XL_OPTIONS = {"safety_checker": None, "requires_safety_checker": False}, {"add_watermarker": False}
ERRORS = (OSError, ValueError, KeyError, RuntimeError, SafetensorError, SingleFileComponentError)  # of the loaders


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the loaders' progress bars, advice and duplicated errors: an error is one line, printed by us."""
    levels = diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()
    diffusers_logging.set_verbosity(diffusers_logging.CRITICAL)
    transformers_logging.set_verbosity(transformers_logging.CRITICAL)
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        diffusers_logging.set_verbosity(levels[0])
        transformers_logging.set_verbosity(levels[1])
        diffusers_logging.enable_progress_bar()
        transformers_logging.enable_progress_bar()


def load_parts(found: FoundBase, encoder: Found | None, dtype: Any, loading: dict[str, Any]) -> Any:
    """A stock pipeline with an image encoder, each part in its variant; one of the loaders' `ERRORS` on failure."""
    xl = is_xl(found.parts)
    kind = StableDiffusionXLPipeline if xl else StableDiffusionPipeline
    parts: dict[str, Any] = dict(_XL_OPTIONS if xl else _OPTIONS)
    options: dict[str, Any] = {"use_safetensors": True, "dtype": dtype}
    if encoder is not None:
        parts["image_encoder"] = _load(encoder.folder, "image_encoder", encoder.variant, options)
    if found.checkpoint is not None:
        parts |= {"config": str(found.folder), "local_files_only": True, "dtype": dtype}
        pipe: Any = _load_single_file(kind, found.checkpoint, **parts, **loading)
    else:
        for name, variant in found.variants.items():
            if variant is not None:
                parts[name] = _load(found.folder / name, name, variant, options)
        pipe = kind.from_pretrained(found.folder, **options, **parts, **loading)
    if pipe.feature_extractor is None:
        size: Any = pipe.image_encoder.config.image_size
        pipe.register_modules(feature_extractor=CLIPImageProcessor(size={"shortest_edge": size}, crop_size=size))
    return pipe


def _load_single_file(kind: Any, checkpoint: Path, **options: Any) -> Any:
    try:
        return kind.from_single_file(str(checkpoint), **options)
    except NotImplementedError as error:  # weights that the file lacks have no values to convert
        raise ValueError("some of its parts' weights are missing") from error


def _load(folder: Path, part: str, variant: str | None, options: dict[str, Any]) -> Any:
    return LOADERS[part].from_pretrained(folder, variant=variant, **options)
