"""LoRAs of a base beside an adapter: diffusers' own loading, weighting and fusing of them, for every base."""

from pathlib import Path
from typing import Any

from diffusers.loaders import StableDiffusionLoraLoaderMixin, StableDiffusionXLLoraLoaderMixin
from diffusers.utils import is_peft_available

from fourdistill.errors import InputError


class LoraLoader(StableDiffusionXLLoraLoaderMixin):
    """`load_lora_weights`, `set_adapters`, `fuse_lora`, `unload_lora_weights`, as in diffusers' pipelines.

    A LoRA changes the frozen base's linear layers, those through which an adapter's words pass included; the adapter
    itself is unchanged. Not every combination was trained to go together.
    """

    def load_lora_weights(self: Any, pretrained_model_name_or_path_or_dict: Any, **loading: Any) -> None:
        """Load a LoRA for the U-Net and the text encoders; arguments as in diffusers, but safetensors only.

        Raises `InputError` if peft is not installed, or for files of another kind.
        """
        lora = pretrained_model_name_or_path_or_dict
        files = [loading.get("weight_name"), lora if isinstance(lora, str | Path) and Path(lora).is_file() else None]
        others = [str(file) for file in files if file and Path(file).suffix != ".safetensors"]
        if others or not loading.get("use_safetensors", True):
            raise InputError(
                f"load_lora_weights: expected .safetensors, got {(others or ['use_safetensors=False'])[0]}"
            )
        if not is_peft_available():
            raise InputError("load_lora_weights: expected the package peft, which is not installed: pip install peft")
        own = StableDiffusionLoraLoaderMixin if self.text_encoder_2 is None else StableDiffusionXLLoraLoaderMixin
        own.load_lora_weights(self, pretrained_model_name_or_path_or_dict, **{"use_safetensors": True, **loading})
