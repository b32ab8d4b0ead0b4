"""Training of the displacement prior: frames become codes once, then come thousands of cheap steps in memory."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.optimization import get_scheduler
from torch.nn import functional as F
from tqdm import tqdm

from fourdistill.errors import InputError
from fourdistill.features.augmentations import PLAIN, augmentations
from fourdistill.models.codec import fit_codec
from fourdistill.models.conditions import Conditions
from fourdistill.models.prior import DisplacementPrior, PriorConfig
from fourdistill.pairs.frame_pairs import FramePairs, read_frame_pairs
from fourdistill.storage.files import sha256
from fourdistill.training.prior.codes import CodedPairs, PairCodes, read_embeds, sample_embeds
from fourdistill.training.runtime.checkpoint import OF_NO_CONSEQUENCE, Checkpoints
from fourdistill.training.runtime.hashes import tensors_hash, weights_hash
from fourdistill.training.runtime.preemption import Preempted, Preemption
from fourdistill.training.runtime.tracking import start_accelerator, start_logs
from fourdistill.training.shuffle import GAP_CONDITIONS, shuffle_condition


@dataclass(frozen=True)
class PriorSettings:
    """The knobs of the prior's training; every random choice follows from `seed`."""

    seed: int = 0
    mirror: bool = True  # train on mirror images too, and ...
    recolour: bool = False  # ... on frames whose colour channels have changed places
    start_share: float = 0.0  # of the weights that a pretrained prior began with, in the average that is saved
    codec_embeds: int = 4096  # image embeddings that the codec is fitted to
    num_components: int = 384  # of the codes
    batch_size: int = 512
    max_steps: int = 2000
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    max_sources: int = 1  # condition images of a sample: from 1 to this many, drawn for each step
    source_noise: float = 0.1  # added to the source's codes, against learning the pairs by heart
    log_every: int = 50  # steps
    validate_every: int = 500
    checkpoint_every: int = 500
    keep_checkpoints: int = 1
    num_val_pairs: int = 512
    mixed_precision: str = "no"  # one of PRECISIONS in models/precision.py


def train_prior(
    pairs_table: Path,
    features: Path | str,
    settings: PriorSettings,
    form: dict[str, Any],
    *,
    prior_folder: Path,
    live_folder: Path,
    checkpoint_folder: Path,
    checkpoint_address: str | None = None,
    pretrained: Path | None = None,
) -> dict[str, float]:
    """Train a prior on all train pairs of a table, save it to `prior_folder`, and return the last validation.

    `form`: the fields of `PriorConfig` that the data do not decide; a `pretrained` prior (its folder, or that of an
    adapter with one) brings its own, and its codes. Without steps it is validated and saved as it is. A killed run
    goes on from its last checkpoint, as if it had not been interrupted. Raises `Preempted` when SIGTERM came and the
    state is saved.
    """
    if settings.max_steps == 0 and pretrained is None:
        raise InputError("train_prior: max_steps: expected at least 1 from scratch, got 0")
    accelerator = start_accelerator(settings.mixed_precision)
    if accelerator.num_processes > 1:
        raise InputError("train_prior: expected one process: it is small, and several would train on the same pairs")
    pairs = read_splits(pairs_table, ("train", "val") if settings.max_steps else ("val",))
    augmented = augmentations(settings.mirror, settings.recolour)
    changes = {split: augmented if split == "train" else (PLAIN,) for split in pairs}
    embeds = {split: read_embeds(each, features, changes[split]) for split, each in pairs.items()}
    prior = start_prior(next(iter(embeds.values()), None), settings, form, pretrained)
    began = {name: value.clone() for name, value in prior.state_dict().items()}
    decisive = {name: value for name, value in asdict(settings).items() if name not in OF_NO_CONSEQUENCE}
    facts = {
        "settings": decisive,
        "form": form,
        "pairs": sha256(pairs_table),
        "features": tensors_hash(each for split in embeds.values() for each in split),
        "start": weights_hash(prior),
    }
    checkpoints = Checkpoints(checkpoint_folder, live_folder, facts, settings.keep_checkpoints, checkpoint_address)
    start_logs(accelerator, live_folder, resume=checkpoints.restore_live())
    coded = {split: PairCodes(each, embeds.pop(split), prior.codec, changes[split]) for split, each in pairs.items()}
    run = PriorRun(accelerator, prior, settings, coded)
    optimizer = torch.optim.AdamW(prior.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    lr_scheduler = get_scheduler(
        "cosine", optimizer, num_warmup_steps=settings.warmup_steps, num_training_steps=settings.max_steps
    )
    _, optimizer, lr_scheduler = accelerator.prepare(prior, optimizer, lr_scheduler)
    first, _ = checkpoints.resume(accelerator)
    if first == 0 and settings.max_steps:
        run.validate(0)

    prior.train()
    train_steps(run, checkpoints, optimizer, lr_scheduler, first)
    if pretrained is not None and settings.max_steps:
        average_with_start(prior, began, settings.start_share)
    run.validate(settings.max_steps)
    prior.save(prior_folder, {"steps": settings.max_steps, **asdict(settings), "validation": run.validation})
    accelerator.end_training()
    checkpoints.clear()  # last: until everything is written, a killed run goes on from the last one
    return run.validation


def train_steps(run: "PriorRun", checkpoints: Checkpoints, optimizer: Any, lr_scheduler: Any, first: int) -> None:
    """The steps from `first` on, with checkpoints; raises `Preempted`."""
    settings, accelerator, prior = run.settings, run.accelerator, run.prior
    steps = range(first, settings.max_steps)
    bar = tqdm(steps, initial=first, total=settings.max_steps, desc="train_prior", unit="step", mininterval=2)
    with Preemption() as preemption:
        for step in bar:
            loss = run.loss(step)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(prior.parameters(), settings.max_grad_norm)
            optimizer.step()
            lr_scheduler.step()
            optimizer.zero_grad(set_to_none=True)
            done = step + 1
            run.log(done, loss, lr_scheduler.get_last_lr()[0])
            if done % settings.validate_every == 0 and done < settings.max_steps:
                run.validate(done)
            preempted = done < settings.max_steps and preemption.asked(accelerator)
            if preempted or (done < settings.max_steps and done % settings.checkpoint_every == 0):
                checkpoints.save(accelerator, done, {})
            if preempted:
                accelerator.end_training()
                raise Preempted


def read_splits(pairs_table: Path, splits: Sequence[str]) -> dict[str, FramePairs]:
    """The pairs of some splits, without splits that have none; raises `InputError` where that is `train`."""
    pairs = {split: read_frame_pairs(pairs_table, split) for split in splits}
    pairs = {split: each for split, each in pairs.items() if len(each.source)}
    if "train" in splits and "train" not in pairs:
        raise InputError(f"{pairs_table}: split: expected pairs of split train, found none")
    return pairs


def average_with_start(prior: DisplacementPrior, start: Mapping[str, torch.Tensor], share: float) -> None:
    """Put `share` of the weights that training began with into those that it ended with, in place.

    What was learnt of the scenes at hand mostly stays, and so does what was known of others: Wortsman et al., "Robust
    fine-tuning of zero-shot models", arXiv 2109.01903.
    """
    ended = prior.state_dict()  # floating point throughout; on a device by now
    prior.load_state_dict(
        {name: ended[name].lerp(value.to(ended[name].device), share) for name, value in start.items()}
    )


def start_prior(
    embeds: list[torch.Tensor] | None, settings: PriorSettings, form: dict[str, Any], pretrained: Path | None
) -> DisplacementPrior:
    """An untrained prior with a codec of the training frames' embeddings, or a pretrained one with its own."""
    if pretrained is not None:
        prior = DisplacementPrior.load(pretrained)
        config = prior.config
        wanted: dict[str, tuple[Any, Any]] = {}
        if embeds is not None:
            found = tuple(embeds[0].shape[1:])
            wanted["image embeddings"] = (found, (config.num_tokens, config.embeds_width))
        if "view_encoding" in form:
            wanted["view_encoding"] = (form["view_encoding"], config.view_encoding)
        for name, (mine, theirs) in wanted.items():
            if mine != theirs:
                expected = f"expected {mine} of a prior to start from, found {theirs}"
                raise InputError(f"{pretrained}: {name}: {expected}; train_prior.start: scratch needs none")
        return prior
    assert embeds is not None  # whoever starts from scratch has pairs to train on
    codec = fit_codec(
        sample_embeds(embeds, settings.codec_embeds, settings.seed), settings.num_components, settings.seed
    )
    config = PriorConfig(*embeds[0].shape[1:], num_components=codec.num_components, **form)
    prior = DisplacementPrior(config, torch.Generator().manual_seed(settings.seed))
    prior.codec.load_state_dict(codec.state_dict())
    return prior


class PriorRun:
    """One training run between its parts: pairs and draws in, losses and metrics out."""

    def __init__(
        self, accelerator: Accelerator, prior: DisplacementPrior, settings: PriorSettings, pairs: dict[str, PairCodes]
    ):
        self.accelerator, self.prior, self.settings, self.pairs = accelerator, prior, settings, pairs
        self.validation: dict[str, float] = {}
        self.window: list[torch.Tensor] = []  # losses since the last log
        self.window_start = time.perf_counter()

    def loss(self, step: int) -> torch.Tensor:
        """The mean loss of a batch. Pairs, changes of their frames and noise follow from (seed, step) alone."""
        settings, pairs = self.settings, self.pairs["train"]
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        index = torch.randint(len(pairs), (settings.batch_size,), generator=generator)
        count = int(torch.randint(settings.max_sources, (1,), generator=generator))
        index = pairs.more_sources(index, count, generator)  # (B, 1 + count)
        variant = torch.randint(pairs.num_variants, (settings.batch_size,), generator=generator)
        batch = pairs(index, variant)
        noise = settings.source_noise * torch.randn(len(batch.sources), *batch.targets.shape, generator=generator)
        sources = [codes + each for codes, each in zip(batch.sources, noise, strict=True)]
        return self.errors(sources, batch.conditions, batch.targets).mean()

    def errors(self, sources: Sequence[torch.Tensor], conditions: Conditions, targets: torch.Tensor) -> torch.Tensor:
        """Mean squared errors of the codes of B pairs (B,)."""
        device = self.accelerator.device
        with self.accelerator.autocast():
            codes = self.prior([each.to(device) for each in sources], conditions.to(device))  # (B, K)
        return F.mse_loss(codes, targets.to(device), reduction="none").mean(dim=1)

    def log(self, step: int, loss: torch.Tensor, lr: float) -> None:
        """Log the mean training loss and the speed every `log_every` steps."""
        self.window.append(loss.detach())
        if step % self.settings.log_every and step != self.settings.max_steps:
            return
        speed = len(self.window) * self.settings.batch_size / (time.perf_counter() - self.window_start)
        values = {"train.loss": torch.stack(self.window).mean().item(), "train.samples_per_s": speed, "train.lr": lr}
        self.accelerator.log(values, step=step)
        self.window, self.window_start = [], time.perf_counter()

    @torch.no_grad()
    def validate(self, step: int) -> None:
        """Log the error on validation pairs, its ratio to that of copying the source, and the condition gaps."""
        if "val" not in self.pairs:
            return
        started = time.perf_counter()
        self.prior.eval()
        generator = torch.Generator().manual_seed(self.settings.seed)
        every = self.pairs["val"]
        index = torch.randperm(len(every), generator=generator)[: self.settings.num_val_pairs]
        pairs: CodedPairs = every(index[:, None], torch.zeros_like(index))
        right = self.errors(pairs.sources, pairs.conditions, pairs.targets)
        copied = F.mse_loss(pairs.sources[0], pairs.targets)
        values = {"val.loss": right.mean().item(), "val.error_over_copy": right.mean().item() / copied.item()}
        for name in GAP_CONDITIONS:
            conditions = replace(pairs.conditions, image_embeds=pairs.sources[0])
            shuffled, has = shuffle_condition(conditions, name, generator)
            if has.any():
                wrong = self.errors([shuffled.image_embeds], shuffled, pairs.targets)
                values[f"gap.{name}"] = (wrong[has].sum() / right[has].sum()).item() - 1
        self.prior.train()
        self.validation = values
        self.accelerator.log(values, step=step)
        tqdm.write(f"step {step}: " + "  ".join(f"{name} {value:.4f}" for name, value in values.items()))
        self.window_start += time.perf_counter() - started
