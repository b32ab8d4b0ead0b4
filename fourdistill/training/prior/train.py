"""Training of the displacement prior: frames are encoded once, followed by thousands of cheap steps on their codes."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from fourdistill.errors import InputError
from fourdistill.features.augmentations import PLAIN, Augmentation, augmentations
from fourdistill.features.settings import Augmentations
from fourdistill.models.codec import fit_codec
from fourdistill.models.mirror import CodeMirror, fit_mirror
from fourdistill.models.prior import DisplacementPrior, PriorConfig
from fourdistill.models.settings import ViewEncoding
from fourdistill.pairs.frame_pairs import FramePairs, read_frame_pairs
from fourdistill.storage.files import sha256
from fourdistill.training.prior.codes import PairCodes
from fourdistill.training.prior.embeds import FrameEmbeds
from fourdistill.training.prior.settings import TrainPrior
from fourdistill.training.prior.task import PriorTask
from fourdistill.training.runtime.trainer import Trainer, TrainerSettings


def train_prior(
    pairs_table: Path,
    features: Path | str,
    settings: TrainPrior,
    augmented: Augmentations,
    view_encoding: ViewEncoding,
    seed: int,
    *,
    prior_folder: Path,
    live_folder: Path,
    checkpoint_folder: Path,
    pretrained: Path | None = None,
) -> dict[str, float]:
    """Train a prior on all train pairs of a table, save it to `prior_folder`, and return the last validation.

    `augmented`: which changed frames are trained on, too; from mirrored ones the prior learns the codes of mirror
    images (`models.mirror`), if that lowers its error. A `pretrained` prior (its folder, or that of an adapter with
    one) brings its own network and codec. With zero steps it is validated and saved unchanged. A killed run resumes
    from its last checkpoint as if it had not been interrupted. Raises `Preempted` after SIGTERM, once the state is
    saved.
    """
    if settings.max_steps == 0 and pretrained is None:
        raise InputError("train_prior: max_steps: expected at least 1 from scratch, got 0")
    trainer = Trainer(
        TrainerSettings.of(settings, seed, mixed_precision=settings.mixed_precision),
        live_folder=live_folder,
        checkpoint_folder=checkpoint_folder,
    )
    if trainer.accelerator.num_processes > 1:
        raise InputError("train_prior: expected one process: it is small, and several would train on the same pairs")
    pairs = read_splits(pairs_table, ("train", "val") if settings.max_steps else ("val",))
    shown = augmentations(augmented.mirror, augmented.recolour)
    changes = {split: shown if split == "train" else (PLAIN,) for split in pairs}
    embeds = {split: FrameEmbeds(each.keys, features, changes[split]) for split, each in pairs.items()}
    prior = start_prior(next(iter(embeds.values()), None), settings, view_encoding, seed, pretrained)
    codes = {split: each.encode(prior.codec) for split, each in embeds.items()}
    facts = {
        "augmentations": asdict(augmented),
        "view_encoding": view_encoding,
        "pairs": sha256(pairs_table),
        # Of the embeddings, not of the codes: these are rounded differently by other processors.
        "features": [each.digest.hexdigest() for each in embeds.values()],
    }
    coded = {split: PairCodes(each, codes[split], changes[split]) for split, each in pairs.items()}
    start_share = settings.start_share if pretrained is not None and settings.max_steps else None
    learns_mirror = augmented.mirror and "train" in codes
    mirror = learn_mirror(codes["train"], shown, settings.codec.num_embeds, seed) if learns_mirror else None
    return trainer.fit(PriorTask(prior, coded, settings, seed, facts, prior_folder, start_share, mirror))


def read_splits(pairs_table: Path, splits: Sequence[str]) -> dict[str, FramePairs]:
    """The pairs of the given splits; omits empty splits, but raises `InputError` if `train` is empty."""
    pairs = {split: read_frame_pairs(pairs_table, split) for split in splits}
    pairs = {split: each for split, each in pairs.items() if len(each.source)}
    if "train" in splits and "train" not in pairs:
        raise InputError(f"{pairs_table}: split: expected pairs of split train, found none")
    return pairs


def learn_mirror(codes: torch.Tensor, changes: Sequence[Augmentation], num_images: int, seed: int) -> CodeMirror:
    """The map to mirror images, fitted to at most `num_images` frames; `codes` (V, F, K) for each of V `changes`."""
    frames = torch.randperm(codes.shape[1], generator=torch.Generator().manual_seed(seed))[:num_images]
    plain, reflected = (codes[changes.index(Augmentation(mirror)), frames] for mirror in (False, True))
    return fit_mirror(plain, reflected)


def start_prior(
    embeds: FrameEmbeds | None,
    settings: TrainPrior,
    view_encoding: ViewEncoding,
    seed: int,
    pretrained: Path | None,
) -> DisplacementPrior:
    """An untrained prior with a codec fitted to the training frames, or a pretrained one with its own codec."""
    if pretrained is not None:
        prior = DisplacementPrior.load(pretrained)
        config = prior.config
        wanted: dict[str, tuple[Any, Any]] = {"view_encoding": (view_encoding, config.view_encoding)}
        if embeds is not None:
            wanted["image embeddings"] = (embeds.shape, (config.num_tokens, config.embeds_width))
        for name, (mine, theirs) in wanted.items():
            if mine != theirs:
                expected = f"expected {mine} of a prior to start from, found {theirs}"
                raise InputError(f"{pretrained}: {name}: {expected}; train_prior.start: scratch needs none")
        return prior
    assert embeds is not None  # starting from scratch requires training pairs
    codec = fit_codec(embeds.sample(settings.codec.num_embeds, seed), settings.codec.num_components, seed)
    num_tokens, width = embeds.shape
    config = PriorConfig(
        **asdict(settings.network), num_tokens=num_tokens, embeds_width=width, view_encoding=view_encoding,
        num_components=codec.num_components,  # the data may allow fewer than were asked for
    )  # fmt: skip
    prior = DisplacementPrior(config, torch.Generator().manual_seed(seed))
    prior.codec.load_state_dict(codec.state_dict())
    return prior
