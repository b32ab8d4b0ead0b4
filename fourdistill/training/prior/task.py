"""Prior training as a task: loss, validation, and the state for its checkpoints."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional as F

from fourdistill.models.conditions import Conditions
from fourdistill.models.mirror import CodeMirror
from fourdistill.models.prior import DisplacementPrior
from fourdistill.training.prior.codes import CodedPairs, PairCodes
from fourdistill.training.prior.settings import TrainPrior
from fourdistill.training.runtime.hashes import weights_hash
from fourdistill.training.runtime.task import Task
from fourdistill.training.shuffle import GAP_CONDITIONS, shuffle_condition

Predict = Callable[[Sequence[torch.Tensor], Conditions], torch.Tensor]
"""Codes (B, K) of each source, conditions => codes (B, K) of the targets."""


class PriorTask(Task):
    """Training of a prior on pairs in memory.

    Args:
        pairs: codes of the pairs of split `train`, and of `val` if there are any.
        mirror: a map to the codes of mirror images, for the trained prior to choose; None: there is no new one.
        facts: JSON values that identify the data.
        start_share: share of the initial weights in the saved average; None: save the final weights.
    """

    def __init__(
        self,
        prior: DisplacementPrior,
        pairs: dict[str, PairCodes],
        settings: TrainPrior,
        seed: int,
        facts: dict[str, Any],
        prior_folder: Path,
        start_share: float | None,
        mirror: CodeMirror | None = None,
    ):
        super().__init__("train_prior", prior)
        self.prior, self.pairs, self.settings, self.seed, self.facts = prior, pairs, settings, seed, facts
        self.prior_folder, self.start_share, self.mirror = prior_folder, start_share, mirror
        self.began = {name: value.clone() for name, value in prior.state_dict().items()}

    def fingerprint(self) -> dict[str, Any]:
        """Settings, data and the initial weights."""
        settings = asdict(self.settings)
        del settings["checkpoints"]  # a resumed run may change them
        return {"settings": settings, "seed": self.seed, **self.facts, "start": weights_hash(self.prior)}

    def place(self, accelerator: Accelerator) -> None:
        """Nothing to move: codes go to the device batch by batch."""
        self.accelerator = accelerator

    def loss(
        self, model: nn.Module, step: int, micro_batch: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """The mean error () of a batch of random pairs, with random augmentations and noise."""
        settings, pairs = self.settings, self.pairs["train"]
        index = torch.randint(len(pairs), (settings.batch_size,), generator=generator)
        count = int(torch.randint(settings.max_sources, (1,), generator=generator))
        index = pairs.more_sources(index, count, generator)  # (B, 1 + count)
        variant = torch.randint(pairs.num_variants, (settings.batch_size,), generator=generator)
        batch = pairs(index, variant)
        noise = settings.source_noise * torch.randn(len(batch.sources), *batch.targets.shape, generator=generator)
        sources = [codes + each for codes, each in zip(batch.sources, noise, strict=True)]
        errors = self.errors(model, sources, batch.conditions, batch.targets)
        return (errors * batch.weight.to(errors.device)).mean(), {}

    def errors(
        self, predict: Predict, sources: Sequence[torch.Tensor], conditions: Conditions, targets: torch.Tensor
    ) -> torch.Tensor:
        """Mean squared errors of the codes of B pairs (B,)."""
        device = self.accelerator.device
        with self.accelerator.autocast():
            codes = predict([each.to(device) for each in sources], conditions.to(device))  # (B, K)
        return F.mse_loss(codes, targets.to(device), reduction="none").mean(dim=1)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The error on validation pairs, its ratio to that of copying the source, and the condition gaps."""
        if "val" not in self.pairs:
            return {}
        generator = torch.Generator().manual_seed(self.seed)
        pairs = self.choose_pairs("val", generator)
        right = self.errors(self.prior.predict, pairs.sources, pairs.conditions, pairs.targets)
        copied = F.mse_loss(pairs.sources[0], pairs.targets)
        values = {"val.loss": right.mean().item(), "val.error_over_copy": right.mean().item() / copied.item()}
        for name in GAP_CONDITIONS:
            conditions = replace(pairs.conditions, image_embeds=pairs.sources[0])
            shuffled, has = shuffle_condition(conditions, name, generator)
            if has.any():
                wrong = self.errors(self.prior.predict, [shuffled.image_embeds], shuffled, pairs.targets)
                values[f"gap.{name}"] = (wrong[has].sum() / right[has].sum()).item() - 1
        return values

    def finish(self) -> None:
        """Average with the initial weights if `start_share` is set, and choose the mirror with the lowest error.

        The choice is between none, the pretrained prior's and the new one. Only the last validation shows a new one.
        """
        if not self.settings.max_steps:
            return
        if self.start_share is not None:
            average_with_start(self.prior, self.began, self.start_share)
        new = None if self.mirror is None else self.mirror.to(self.accelerator.device)
        self.prior.set_mirror(min((None, self.prior.mirror, new), key=self.error_with))

    @torch.no_grad()
    def error_with(self, mirror: CodeMirror | None) -> float:
        """The prior's error with a mirror, on validation pairs or, without any, on training pairs."""
        self.prior.set_mirror(mirror)
        pairs = self.choose_pairs("val" if "val" in self.pairs else "train", torch.Generator().manual_seed(self.seed))
        return self.errors(self.prior.predict, pairs.sources, pairs.conditions, pairs.targets).mean().item()

    def choose_pairs(self, split: str, generator: torch.Generator) -> CodedPairs:
        """Random pairs, unchanged by augmentations."""
        every = self.pairs[split]
        index = torch.randperm(len(every), generator=generator)[: self.settings.logging.num_val_pairs]
        return every(index[:, None], torch.zeros_like(index))

    def save(self, validation: dict[str, float]) -> None:
        """Save the prior."""
        facts = {"steps": self.settings.max_steps, "seed": self.seed, **asdict(self.settings), "validation": validation}
        self.prior.save(self.prior_folder, facts)


def average_with_start(prior: DisplacementPrior, start: Mapping[str, torch.Tensor], share: float) -> None:
    """Average the final weights with the initial ones, which get weight `share`, in place.

    This keeps most of what was learnt on the new scenes, and of what was known about others: Wortsman et al., "Robust
    fine-tuning of zero-shot models", arXiv 2109.01903.
    """
    ended = prior.state_dict()  # all floating point; on a device
    prior.load_state_dict(
        {name: ended[name].lerp(value.to(ended[name].device), share) for name, value in start.items()}
    )
