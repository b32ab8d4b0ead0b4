"""The projectors of IP-Adapters, image embeddings => image tokens: their sizes, and what they read of an image.

An IP-Adapter Plus reads the image encoder's last hidden states but one (B, S, D); the original reads its projected
output alone, here as (B, 1, D).
"""

from typing import Any

from diffusers.models.embeddings import ImageProjection, IPAdapterPlusImageProjection

Projector = ImageProjection | IPAdapterPlusImageProjection


def build_projector(sizes: dict[str, int]) -> Projector:
    """A projector from the output of `projector_sizes`, which are its constructor's arguments."""
    return ImageProjection(**sizes) if is_original(sizes) else IPAdapterPlusImageProjection(**sizes)


def projector_sizes(projector: Projector) -> dict[str, int]:
    """The constructor arguments of a loaded projector, read from its weights."""
    if isinstance(projector, ImageProjection):
        return {
            "image_embed_dim": projector.image_embeds.in_features,
            "cross_attention_dim": projector.norm.weight.numel(),
            "num_image_text_embeds": projector.num_image_text_embeds,
        }
    block: Any = projector.layers[0]
    hidden = projector.proj_in.out_features
    return {
        "embed_dims": projector.proj_in.in_features,
        "output_dims": projector.proj_out.out_features,
        "hidden_dims": hidden,
        "depth": len(projector.layers),
        "dim_head": block.attn.to_q.out_features // block.attn.heads,
        "heads": block.attn.heads,
        "num_queries": projector.latents.shape[1],
        "ffn_ratio": block.ff[1].net[0].proj.out_features // hidden,
    }


def is_original(sizes: dict[str, int]) -> bool:
    """Whether sizes are those of the original IP-Adapter's projector, which reads the projected output."""
    return "num_image_text_embeds" in sizes


def num_tokens(sizes: dict[str, int]) -> int:
    """T, the image tokens of a projector."""
    return sizes["num_image_text_embeds" if is_original(sizes) else "num_queries"]


def embeds_width(sizes: dict[str, int]) -> int:
    """D of the image embeddings that a projector reads."""
    return sizes["image_embed_dim" if is_original(sizes) else "embed_dims"]


def output_norm(projector: Projector) -> Any:
    """A projector's last layer, a layer norm: it sets the size of the tokens."""
    return projector.norm if isinstance(projector, ImageProjection) else projector.norm_out
