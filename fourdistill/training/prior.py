"""Training of the displacement prior: pairs become codes once, then come thousands of cheap steps in memory."""

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.optimization import get_scheduler
from torch.nn import functional as F
from tqdm import tqdm

from fourdistill.data.loader import list_splits
from fourdistill.models.codec import fit_codec
from fourdistill.models.conditions import Conditions
from fourdistill.models.prior import DisplacementPrior, PriorConfig
from fourdistill.training.checkpoint import Checkpoints, shards_hash
from fourdistill.training.codes import read_codes, read_embeds
from fourdistill.training.shuffle import GAP_CONDITIONS, shuffle_condition
from fourdistill.training.tracking import start_accelerator

GAP_TIMESTEPS = (300, 600, 900)  # of the prior's own 1000


@dataclass(frozen=True)
class PriorSettings:
    """The knobs of the prior's training; every random choice follows from `seed`."""

    seed: int = 0
    num_pairs: int = 50000  # kept in memory at most
    codec_embeds: int = 4096  # image embeddings that the codec is fitted to
    num_components: int = 384  # of the codes
    batch_size: int = 256
    max_steps: int = 1200
    learning_rate: float = 1e-3
    warmup_steps: int = 50
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    source_noise: float = 0.1  # added to the source's codes, against learning the pairs by heart
    log_every: int = 50  # steps
    validate_every: int = 400
    checkpoint_every: int = 400
    num_val_pairs: int = 512


def train_prior(
    shards: Path,
    settings: PriorSettings,
    form: dict[str, Any],
    *,
    prior_folder: Path,
    live_folder: Path,
    checkpoint_folder: Path,
) -> dict[str, float]:
    """Train a prior on the pairs in `shards`, save it to `prior_folder`, and return the last validation.

    `form`: the fields of `PriorConfig` that the data do not decide. A killed run goes on from its last checkpoint, as
    if it had not been interrupted.
    """
    facts = {"settings": asdict(settings), "form": form, "shards": shards_hash(shards)}
    checkpoints = Checkpoints(checkpoint_folder, live_folder, facts)
    accelerator = start_accelerator(live_folder, "no", resume=checkpoints.restore_live())
    prior = start_prior(shards, settings, form)
    run = PriorRun(accelerator, prior, settings, shards)
    optimizer = torch.optim.AdamW(prior.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    lr_scheduler = get_scheduler(
        "cosine", optimizer, num_warmup_steps=settings.warmup_steps, num_training_steps=settings.max_steps
    )
    _, optimizer, lr_scheduler = accelerator.prepare(prior, optimizer, lr_scheduler)
    first = checkpoints.resume(accelerator)
    if first == 0:
        run.validate(0)

    prior.train()
    steps = range(first, settings.max_steps)
    for step in tqdm(steps, initial=first, total=settings.max_steps, desc="train_prior", unit="step", mininterval=2):
        loss = run.loss(step)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(prior.parameters(), settings.max_grad_norm)
        optimizer.step()
        lr_scheduler.step()
        optimizer.zero_grad(set_to_none=True)
        done = step + 1
        run.log(done, loss, lr_scheduler.get_last_lr()[0])
        if done % settings.validate_every == 0 or done == settings.max_steps:
            run.validate(done)
        if done % settings.checkpoint_every == 0 and done < settings.max_steps:
            checkpoints.save(accelerator, done)

    prior.save(prior_folder, {"steps": settings.max_steps, **asdict(settings), "validation": run.validation})
    checkpoints.clear()
    accelerator.end_training()
    return run.validation


def start_prior(shards: Path, settings: PriorSettings, form: dict[str, Any]) -> DisplacementPrior:
    """An untrained prior with a codec of the training pairs' embeddings."""
    embeds = read_embeds(shards, settings.codec_embeds, settings.seed)  # (N, S, D)
    codec = fit_codec(embeds, settings.num_components, settings.seed)
    config = PriorConfig(*embeds.shape[1:], num_components=codec.num_components, **form)
    prior = DisplacementPrior(config, torch.Generator().manual_seed(settings.seed))
    prior.codec.load_state_dict(codec.state_dict())
    return prior


class PriorRun:
    """One training run between its parts: pairs and draws in, losses and metrics out."""

    def __init__(self, accelerator: Accelerator, prior: DisplacementPrior, settings: PriorSettings, shards: Path):
        self.accelerator, self.prior, self.settings = accelerator, prior, settings
        wanted = {"train": settings.num_pairs, "val": settings.num_val_pairs}
        self.pairs = {
            split: read_codes(shards, split, prior.codec, prior.config.view_encoding, count, settings.seed)
            for split, count in wanted.items()
            if count and (split == "train" or split in list_splits(shards))
        }
        self.validation: dict[str, float] = {}
        self.window: list[torch.Tensor] = []  # losses since the last log
        self.window_start = time.perf_counter()

    def loss(self, step: int) -> torch.Tensor:
        """The mean loss of a batch. Pairs, noise and dropout follow from (seed, step) alone."""
        settings, pairs = self.settings, self.pairs["train"]
        seed = settings.seed * 1_000_003 + step
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)  # dropout knows only the global generator
        index = torch.randint(len(pairs), (settings.batch_size,), generator=generator)
        conditions, targets = pairs.conditions[index], pairs.targets[index]
        codes = conditions.image_embeds  # (B, K)
        noise = settings.source_noise * torch.randn(codes.shape, generator=generator)
        timesteps = torch.randint(self.prior.num_train_timesteps, (len(index),), generator=generator)
        noisy_source = replace(conditions, image_embeds=codes + noise)
        return self.losses(noisy_source, targets, timesteps, generator).mean()

    def losses(
        self, conditions: Conditions, targets: torch.Tensor, timesteps: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """Squared errors of the clean codes (B,), from noisy ones at timesteps (B,)."""
        device = self.accelerator.device
        noise = torch.randn(targets.shape, generator=generator)
        noisy = self.prior.schedule.add_noise(targets, noise, timesteps).to(device)  # (B, K)
        clean = self.prior(noisy, timesteps.to(device), conditions.to(device))  # (B, K)
        return F.mse_loss(clean, targets.to(device), reduction="none").mean(dim=1)

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
        """Log loss and condition gaps on validation pairs, and the error of samples over that of copying the source."""
        if "val" not in self.pairs:
            return
        started = time.perf_counter()
        self.prior.eval()
        pairs, device = self.pairs["val"], self.accelerator.device
        generator = torch.Generator().manual_seed(self.settings.seed)
        timesteps = torch.tensor(GAP_TIMESTEPS).repeat(len(pairs) // len(GAP_TIMESTEPS) + 1)[: len(pairs)]
        right = self.losses(pairs.conditions, pairs.targets, timesteps, generator.manual_seed(1))
        values = {"val.loss": right.mean().item()}
        for name in GAP_CONDITIONS:
            shuffled, has = shuffle_condition(pairs.conditions, name, generator)
            if has.any():
                wrong = self.losses(shuffled, pairs.targets, timesteps, generator.manual_seed(1))
                values[f"gap.{name}"] = (wrong[has].sum() / right[has].sum()).item() - 1
        noise = torch.randn(pairs.targets.shape, generator=generator)
        samples = self.prior.sample_codes(pairs.conditions.to(device), noise.to(device)).cpu()
        copied = F.mse_loss(pairs.conditions.image_embeds, pairs.targets)
        values["val.error_over_copy"] = (F.mse_loss(samples, pairs.targets) / copied).item()
        self.prior.train()
        self.validation = values
        self.accelerator.log(values, step=step)
        tqdm.write(f"step {step}: " + "  ".join(f"{name} {value:.4f}" for name, value in values.items()))
        self.window_start += time.perf_counter() - started
