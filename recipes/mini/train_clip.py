"""Stage `train_clip`: train a small CLIP (text and vision) and its tokenizer contrastively on frames and captions.

An image prompt uses the vision tower's penultimate layer. With a contrastive loss alone, that layer loses the content
and position of patches, and cross-attention cannot attend to a position that no token encodes. So linear heads must
reconstruct each patch's pixels and position from its token; the heads are discarded afterwards.
"""

import json
from typing import Any

import numpy as np
import torch
from frames import Frames
from task import fit
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import nn
from torch.nn import functional as F
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)
from work import WORK, digest, load_section

OUT = WORK / "clip" / "model"


def train_tokenizer(captions: list[str], params: dict) -> CLIPTokenizer:
    """A CLIP byte-pair tokenizer trained on the captions."""
    bpe = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=params["vocab_size"],
        end_of_word_suffix="</w>",
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
    )
    bpe.train_from_iterator(sorted(captions), trainer)
    model = json.loads(bpe.to_str())["model"]
    vocab = dict(model["vocab"])
    for letter in pre_tokenizers.ByteLevel.alphabet():  # a word that ends in any byte must have a token
        vocab.setdefault(letter, len(vocab))
        vocab.setdefault(letter + "</w>", len(vocab))
    merges: Any = [tuple(merge) for merge in model["merges"]]
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=params["context_length"])


class ContrastiveModel(nn.Module):
    """Both towers, the temperature, and the heads that keep patch information in the penultimate vision layer."""

    def __init__(self, tokenizer: CLIPTokenizer, params: dict) -> None:
        super().__init__()
        special: Any = {
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
        common: Any = {
            "hidden_size": params["width"],
            "intermediate_size": 4 * params["width"],
            "num_attention_heads": params["heads"],
            "projection_dim": params["projection_dim"],
        }
        self.text = CLIPTextModelWithProjection(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                max_position_embeddings=params["context_length"],
                num_hidden_layers=params["text_layers"],
                **special,
                **common,
            )
        )
        self.vision = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                image_size=128, patch_size=params["patch_size"], num_hidden_layers=params["vision_layers"], **common
            )
        )
        self.patch_size = params["patch_size"]
        grid = 128 // self.patch_size
        self.patch_head = nn.Linear(params["width"], 3 * self.patch_size**2)
        self.place_head = nn.Linear(params["width"], grid**2)
        positions = self.vision.vision_model.embeddings.position_embedding.weight
        with torch.no_grad():
            positions[1:] = sincos_grid(grid, params["width"])  # the class token keeps its own
        self.logit_scale = nn.Parameter(torch.tensor(2.66))

    def forward(
        self, pixel_values: torch.Tensor, input_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pixels (B, 3, H, W), ids (B, L) => similarity logits (B, B) image by text, patch loss (), place loss ()."""
        vision = self.vision(pixel_values=pixel_values, output_hidden_states=True)
        image = F.normalize(vision.image_embeds.float(), dim=-1)  # (B, P)
        text = F.normalize(self.text(input_ids=input_ids).text_embeds.float(), dim=-1)  # (B, P)
        logits = self.logit_scale.exp().clamp(max=100) * image @ text.T  # (B, B)
        patches = F.unfold(pixel_values, self.patch_size, stride=self.patch_size).transpose(1, 2)  # (B, T, 3pp)
        tokens = vision.hidden_states[-2][:, 1:]  # (B, T, D)
        restored = self.patch_head(tokens).float()  # (B, T, 3pp)
        places = self.place_head(F.layer_norm(tokens, tokens.shape[-1:])).float()  # (B, T, T)
        place = torch.arange(places.shape[1], device=places.device).expand(len(places), -1)  # (B, T)
        return logits, F.mse_loss(restored, patches), F.cross_entropy(places.flatten(0, 1), place.flatten())


def sincos_grid(size: int, width: int) -> torch.Tensor:
    """Sine-cosine code of the centres of a size x size grid, row by row => (size * size, width).

    Wavelengths range from twice the picture's side to a third of it.
    """
    centres = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    frequencies = torch.pi * 2 ** torch.linspace(0, 2.5, width // 4)
    phases = [centre.flatten()[:, None] * frequencies for centre in (y, x)]  # each (size * size, width / 4)
    return torch.cat([wave(phase) for phase in phases for wave in (torch.sin, torch.cos)], dim=1)


def contrastive_loss(logits: torch.Tensor, caption: torch.Tensor) -> torch.Tensor:
    """Symmetric InfoNCE (CLIP, arXiv 2103.00020, figure 3) in which all equal captions are positives."""
    same = (caption[:, None] == caption[None]).float()  # (B, B)
    target = same / same.sum(1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def clip_pixels(pixels: torch.Tensor, processor: CLIPImageProcessor) -> torch.Tensor:
    """Pixel values in [-1, 1] => normalised as by the image processor, (B, 3, H, W)."""
    mean, std = (pixels.new_tensor(v).view(3, 1, 1) for v in (processor.image_mean, processor.image_std))
    return ((pixels + 1) / 2 - mean) / std


def make_processor() -> CLIPImageProcessor:
    """CLIP's image processor for 128-pixel pictures."""
    return CLIPImageProcessor(size={"shortest_edge": 128}, crop_size={"height": 128, "width": 128})


def main() -> None:
    """Train both towers and save them in the layout that diffusers' pipelines read."""
    params, seed = load_section("clip"), load_section("seed")
    frames = Frames.load()
    train = np.flatnonzero(~frames.is_val)
    tokenizer = train_tokenizer(frames.captions, params)
    processor = make_processor()
    input_ids = tokenizer(frames.captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
    torch.manual_seed(seed)  # initial weights
    model = ContrastiveModel(tokenizer, params)

    def draw(step, generator):
        rng = np.random.default_rng(generator.initial_seed())
        indices = np.sort(rng.choice(train, params["batch_size"], replace=False))
        caption = torch.from_numpy(frames.caption[indices]).long()
        return clip_pixels(frames.batch(indices), processor), input_ids[caption], caption

    def compute_loss(model, pixel_values, input_ids, caption):
        logits, patch_loss, place_loss = model(pixel_values, input_ids)
        loss = contrastive_loss(logits, caption)
        top1 = (caption[logits.argmax(1)] == caption).float().mean().item()
        figures = {"top1": top1, "patch_mse": patch_loss.item(), "place_loss": place_loss.item()}
        return loss + params["patch_weight"] * patch_loss + params["place_weight"] * place_loss, figures

    fit(
        model,
        draw,
        compute_loss,
        WORK / "clip",
        steps=params["steps"],
        batch_size=params["batch_size"],
        learning_rate=params["learning_rate"],
        seed=seed,
        weight_decay=0.05,
        belongs_to=[params, digest(WORK / "frames" / "frames.json", WORK / "frames" / "pixels.npy")],
    )
    tokenizer.save_pretrained(OUT / "tokenizer")
    processor.save_pretrained(OUT / "feature_extractor")
    model.text.save_pretrained(OUT / "text")
    model.vision.save_pretrained(OUT / "image_encoder")
    (OUT / "logit_scale.json").write_text(json.dumps({"logit_scale": model.logit_scale.item()}))


if __name__ == "__main__":
    main()
