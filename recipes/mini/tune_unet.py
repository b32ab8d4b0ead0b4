"""Stage `tune_unet` of `recipes/mini_adapter`: train the base's U-Net on, with a prior's predictions as image prompts.

`train_unet` shows it the embeddings of real frames only. Predicted ones leave out what the prior cannot know: a U-Net
that has never seen such draws limbs that dissolve and pieces that float. Here, a share of the image prompts are
predictions of the target frame from another frame of its scene.

    python recipes/mini/tune_unet.py --over recipes/mini_adapter/params.yaml
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from package import image_prompt_checkpoint, without_image_prompt
from safetensors.torch import save_file
from task import fit
from train_unet import encode_captions, make_draw, make_loss
from work import digest, load_section

from fourdistill.features.files import FeatureReader
from fourdistill.features.images import LATENTS
from fourdistill.models.base.model import encode_null_image
from fourdistill.models.prior import WEIGHTS_NAME, DisplacementPrior
from fourdistill.pairs.frame_pairs import read_frame_pairs
from fourdistill.stage import run_stage
from fourdistill.tables import FRAMES, read_table
from fourdistill.training.prior.codes import PairCodes
from fourdistill.training.prior.embeds import FrameEmbeds

if TYPE_CHECKING:
    from fourdistill.params import Params

CHECKPOINT = "ip-adapter-plus_mini.safetensors"


@dataclass(frozen=True)
class PairExamples:
    """Target frames of pairs; their image prompts are their own embeddings or, in `predicted` of them, predictions."""

    pairs: PairCodes
    embeds: FrameEmbeds
    prior: DisplacementPrior
    predicted: float
    latents: np.ndarray  # (F, C, h, w) float16
    caption: np.ndarray  # (F,): numbers of `text`
    null_image: torch.Tensor
    text: torch.Tensor

    @torch.no_grad()
    def draw(self, count: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
        """Targets of random pairs."""
        index = torch.from_numpy(rng.choice(len(self.pairs), count, replace=False))
        targets = self.pairs.target[index].numpy()
        image = self.embeds.read(0, targets.tolist()).float()
        pairs = self.pairs(index[:, None], torch.zeros(count, dtype=torch.long))
        is_predicted = torch.from_numpy(rng.random(count) < self.predicted)
        image[is_predicted] = self.prior.codec.decode(self.prior.predict(pairs.sources, pairs.conditions))[is_predicted]
        return torch.from_numpy(self.latents[targets]).float(), image, self.caption[targets]


@torch.no_grad()
def load_examples(params: "Params", pipe: Any, predicted: float) -> PairExamples:
    """The pairs of split `train` of the folders in `params`, their frames' features and captions, and the prior."""
    paths = params.paths
    pairs = read_frame_pairs(paths.pairs_table, "train")
    reader = FeatureReader(paths.features)
    rows = reader.store.each(lambda key: reader.read(*key, LATENTS), pairs.keys)
    table = read_table(paths.frames_table, FRAMES, ["scene", "caption"])
    caption_of = dict(zip(table["scene"].to_pylist(), table["caption"].to_pylist(), strict=True))
    captions = sorted({caption_of[scene] for scene, *_ in pairs.keys})
    number_of = {caption: number for number, caption in enumerate(captions)}
    prior = DisplacementPrior.load(paths.prior).float().eval()
    embeds = FrameEmbeds(pairs.keys, paths.features)
    return PairExamples(
        pairs=PairCodes(pairs, embeds.encode(prior.codec)),
        embeds=embeds,
        prior=prior,
        predicted=predicted,
        latents=np.stack(list(rows)),
        caption=np.array([number_of[caption_of[scene]] for scene, *_ in pairs.keys]),
        null_image=encode_null_image(pipe.image_encoder)[0],
        text=encode_captions(captions, pipe.tokenizer, pipe.text_encoder),
    )


def open_image_prompt(pipe: Any, base: str) -> Any:
    """Load the base's image prompt; return its projector. The U-Net takes (text hidden states, [image tokens])."""
    pipe.load_ip_adapter(base, subfolder="ip_adapter", weight_name=CHECKPOINT, image_encoder_folder=None)
    [projector] = pipe.unet.encoder_hid_proj.image_projection_layers
    pipe.unet.encoder_hid_proj = None
    pipe.unet.register_to_config(encoder_hid_dim_type=None)
    return projector.requires_grad_(False).eval()


def write_base(base: Path, out: Path, unet: Any, projector: Any) -> None:
    """A copy of the base with another U-Net and image prompt, in half precision; `out` is replaced."""
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(base, partial)
    weights = without_image_prompt(unet).half().state_dict()
    save_file(weights, partial / "unet" / SAFETENSORS_WEIGHTS_NAME, metadata={"format": "pt"})
    save_file(image_prompt_checkpoint(unet, projector), partial / "ip_adapter" / CHECKPOINT)
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)


def main(params: "Params") -> None:
    """Tune the base's U-Net to the prior's predictions, into a folder `base` beside the prior's.

    A killed run resumes when started again.
    """
    settings, out = load_section("tune_unet"), params.paths.prior.with_name("base")
    pipe = StableDiffusionPipeline.from_pretrained(params.paths.base)
    projector = open_image_prompt(pipe, params.paths.base)
    unet: Any = pipe.unet
    examples = load_examples(params, pipe, settings["predicted"])
    schedule = {name: pipe.scheduler.config[name] for name in ("prediction_type", "beta_schedule")}
    tuned = fit(
        unet.requires_grad_(True),
        make_draw({**settings, "noise_steps": 0}, examples),
        make_loss(schedule, projector),
        out.with_name("unet"),
        steps=settings["steps"],
        batch_size=settings["batch_size"],
        learning_rate=settings["learning_rate"],
        seed=load_section("seed"),
        ema_decay=settings["ema_decay"],
        belongs_to=[settings, digest(params.paths.pairs_table, params.paths.prior / WEIGHTS_NAME)],
    )
    write_base(Path(params.paths.base), out, tuned, projector)


if __name__ == "__main__":
    run_stage(main)
