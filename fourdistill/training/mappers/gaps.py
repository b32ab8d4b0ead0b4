"""Condition gaps: whether the model uses image, time and view, measured per noise level from the first step on."""

from collections.abc import Sequence

import torch

from fourdistill.models.adapter import Adapter
from fourdistill.shards.loader.batches import Batch
from fourdistill.training.mappers.batches import conditions_of_batch
from fourdistill.training.mappers.denoiser import Denoiser
from fourdistill.training.shuffle import GAP_CONDITIONS, shuffle_condition


@torch.no_grad()
def measure_gaps(
    denoiser: Denoiser, adapter: Adapter, batches: list[Batch], timesteps: Sequence[int], seed: int
) -> dict[str, float]:
    """Validation losses and gaps, `gap.<condition>.t<timestep>` = DDPM loss with the condition shuffled / right - 1.

    `batches` are validation batches on the denoiser's device. A gap of zero means that the model ignores the condition.
    A gap counts only samples that have the condition; a batch with fewer than two such samples is skipped.
    The same noise and the same shuffles are drawn from `seed` each time. `val.loss` is the mean over the noise levels.
    """
    totals: dict[str, list[float]] = {}
    for timestep in timesteps:
        generator = torch.Generator().manual_seed(seed)
        for batch in batches:
            latents = batch.target_latents
            conditions = conditions_of_batch(batch)
            noise = torch.randn(latents.shape, generator=generator).to(latents.device)
            t = torch.full((len(latents),), timestep, device=latents.device)
            given = (latents, noise, t, conditions, batch.caption)
            right = denoiser.losses(*given, loss="ddpm")  # (B,)
            trained = right if denoiser.loss == "ddpm" else denoiser.losses(*given)
            add(totals, f"val.loss.t{timestep}", trained.sum(), len(trained))
            for name in GAP_CONDITIONS:
                shuffled, has = shuffle_condition(conditions, name, generator)
                if has.any():
                    wrong = denoiser.losses(latents, noise, t, shuffled, batch.caption, loss="ddpm")  # (B,)
                    add(totals, f"gap.{name}.t{timestep}", wrong[has].sum(), right[has].sum())
    metrics = {name: first / second - (name.startswith("gap.")) for name, (first, second) in totals.items()}
    metrics["val.loss"] = sum(metrics[f"val.loss.t{t}"] for t in timesteps) / len(timesteps)
    return metrics


def add(totals: dict[str, list[float]], name: str, first: torch.Tensor, second: torch.Tensor | int) -> None:
    """Add to the two sums of a ratio."""
    sums = totals.setdefault(name, [0.0, 0.0])
    sums[0] += float(first)
    sums[1] += float(second)


def format_gaps(metrics: dict[str, float]) -> str:
    """`image 0.12/0.34/0.56  time …`: the gaps in `metrics`, ordered by noise level."""
    levels: dict[str, list[str]] = {}
    for name, value in metrics.items():
        if name.startswith("gap."):
            levels.setdefault(name.split(".")[1], []).append(f"{value:.4f}")
    return "  ".join(f"{name} {'/'.join(values)}" for name, values in levels.items())
