"""Description of a checkpoint from the names and shapes of its weights only."""

import re
from collections.abc import Mapping

Shapes = Mapping[str, tuple[int, ...]]

PLUS = "IP-Adapter Plus"
ORIGINAL = "original IP-Adapter"
WHOLE = "a whole"  # as the kinds begin that have all parts of a base
WHOLE_XL = f"{WHOLE} SDXL checkpoint in one file"
# Cross-attention widths and their models; FaceID and InstantID read face embeddings of 512 numbers.
WIDTHS = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "SDXL or Kolors", 4096: "Flux or SD3"}
FACE_WIDTH = 512
_FRAGMENTS = (  # fragments of names => kind, most specific first
    (r"^image_prompt\.projector\.", "an adapter of fourdistill: its folder is an --adapter"),
    (r"lora_(down|up|unet|te)|\.lora[_.](A|B|down|up)|hada_w|lokr_w|_lora\.(down|up)", "a LoRA"),
    (r"controlnet_|^control_model\.|input_hint_block", "a ControlNet"),
    (r"motion_modules?\.|temporal_transformer", "a motion module (AnimateDiff)"),
    (r"ip_adapter_(double|single)_stream|ip_adapter_proj_model", "an IP-Adapter for Flux"),
    (r"(double|single)_blocks\.", "a transformer (Flux)"),
    (r"joint_blocks\.|transformer_blocks\.\d+\.attn\.add_k", "a transformer (SD3)"),
    (r"^conditioner\.embedders", WHOLE_XL),
    (r"^(first_stage_model|cond_stage_model)\.", f"{WHOLE} Stable Diffusion checkpoint in one file"),
    (r"^(model\.diffusion_model|diffusion_model)\.|^input_blocks\.", "a U-Net in Stability's layout"),
    (r"^adapter\.body\.|^body\.\d+\.", "a T2I-Adapter"),
    (r"^(string_to_param|emb_params|clip_[lg])", "a textual inversion"),
    (r"^time_embedding\.|^down_blocks\..*attentions", "a U-Net"),
    (r"^(encoder|decoder)\.(mid_block|mid|down|up)|^quant_conv", "a VAE"),
    (r"vision_model\.", "a CLIP image encoder"),
    (r"text_model\.", "a CLIP text encoder"),
)  # fmt: skip


def describe(shapes: Shapes) -> str:
    """Kind and sizes of weights, from flat names in the original layout (see `ip_adapter`)."""
    if not shapes:
        return "no weights at all"
    projector = {name.split(".", 1)[1]: shape for name, shape in shapes.items() if name.startswith("image_proj.")}
    layers = {name.split(".", 1)[1]: shape for name, shape in shapes.items() if name.startswith("ip_adapter.")}
    if projector or any("_ip." in name for name in layers):
        return _describe_ip_adapter(projector, layers)
    for pattern, kind in _FRAGMENTS:
        if any(re.search(pattern, name) for name in shapes):
            return kind
    if len(shapes) <= 2 and all(1 <= len(shape) <= 2 and shape[-1] in WIDTHS for shape in shapes.values()):
        return "a textual inversion"
    return f"other weights ({min(shapes)} ...)"


def _describe_ip_adapter(projector: Shapes, layers: Shapes) -> str:
    """The kind of an IP-Adapter, and the model whose cross-attention it fits."""
    kind = projector_kind(projector)
    lora = " with a LoRA" if any("_lora." in name for name in layers) else ""
    widths = {shape[1] for name, shape in layers.items() if name.endswith("_ip.weight") and len(shape) == 2}
    whose = "".join(f" for cross-attention of {width}{_named(width)}" for width in sorted(widths))
    return f"{'a part of an' if not (projector and layers) else 'an'} {kind}{lora}{whose}"


def _named(width: int) -> str:
    return f" ({WIDTHS[width]})" if width in WIDTHS else ""


def projector_kind(projector: Shapes) -> str:
    """The kind of an IP-Adapter, recognized by the parts of its projector."""
    if "latents" in projector and "proj_in.weight" in projector:
        faces = projector["proj_in.weight"][-1:] == (FACE_WIDTH,)
        return "IP-Adapter on the embeddings of faces (InstantID)" if faces else PLUS
    if any(name.startswith("perceiver_resampler.") for name in projector):
        return "IP-Adapter FaceID Plus"
    if "proj.weight" in projector:
        return ORIGINAL
    if "proj.3.weight" in projector:
        return "IP-Adapter of the kind full-face"
    if "proj.0.weight" in projector:
        faces = projector["proj.0.weight"][-1:] == (FACE_WIDTH,)
        return "IP-Adapter FaceID" if faces else "IP-Adapter with a two-layer projector"
    return "IP-Adapter of an unknown kind" if projector else "IP-Adapter without its projector"
