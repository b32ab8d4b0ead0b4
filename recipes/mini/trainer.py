"""One resumable training loop for the sub-models of a base: accelerate for state, DVCLive for logs.

A batch is a pure function of (seed, step): the loop hands `compute_loss` a generator seeded by both, so a run that
was killed and resumed sees the same batches, crops and noise as one that never stopped.
"""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from dvclive import Live
from tqdm import tqdm

LossFn = Callable[[torch.nn.Module, int, torch.Generator], tuple[torch.Tensor, dict[str, float]]]


def step_generator(seed: int, step: int) -> torch.Generator:
    """The generator of one step: independent of every other step, the same after a resume."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def fit(
    model: torch.nn.Module,
    compute_loss: LossFn,
    work_dir: Path,
    *,
    steps: int,
    learning_rate: float,
    seed: int,
    warmup_steps: int = 200,
    weight_decay: float = 0.01,
    ema_decay: float | None = None,
    log_every: int = 50,
    save_every: int = 500,
    belongs_to: object = None,
) -> torch.nn.Module:
    """Train `model` for `steps` steps under bf16 autocast and return it, with EMA weights if `ema_decay` is set.

    `compute_loss(model, step, generator)` gives the loss and a dict of figures to log. State goes to
    `work_dir/state` every `save_every` steps; the same call picks it up again, if it says of itself that it belongs
    to the same thing (`belongs_to`, such as the parameters, and the numbers here). Logs go to `work_dir/dvclive`.
    """
    owner = repr((steps, learning_rate, seed, warmup_steps, weight_decay, ema_decay, belongs_to))
    accelerator = Accelerator(
        mixed_precision="bf16",
        project_config=ProjectConfiguration(project_dir=str(work_dir)),
        step_scheduler_with_optimizer=False,
    )
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay)
    scheduler = get_scheduler("cosine", optimizer, num_warmup_steps=warmup_steps, num_training_steps=steps)
    model, optimizer, scheduler = accelerator.prepare(model, optimizer, scheduler)
    ema = EMAModel(parameters, decay=ema_decay, use_ema_warmup=True, power=0.75) if ema_decay else None
    if ema is not None:
        accelerator.register_for_checkpointing(ema)

    state_dir = work_dir / "state"
    first = load_state(accelerator, state_dir, owner)
    with Live(str(work_dir / "dvclive"), resume=first > 0, save_dvc_exp=False, report=None, dvcyaml=None) as live:
        means = Means(live, first, log_every)
        for step in tqdm(range(first, steps), initial=first, total=steps, desc=work_dir.name, mininterval=10):
            with accelerator.autocast():
                loss, figures = compute_loss(model, step, step_generator(seed, step))
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            if ema is not None:
                ema.step(parameters)
            means.add(step, {"loss": loss.item(), **figures})
            if (step + 1) % save_every == 0:
                save_state(accelerator, state_dir, step + 1, owner)
    if ema is not None:
        ema.copy_to(parameters)
    return accelerator.unwrap_model(model)


class Means:
    """Means of a step's figures over every `every` steps, and the speed since `first`, logged through DVCLive."""

    def __init__(self, live: Live, first: int, every: int) -> None:
        self.live, self.first, self.every = live, first, every
        self.started = time.time()
        self.sums: dict[str, float] = {}

    def add(self, step: int, figures: dict[str, float]) -> None:
        """Count the figures of one step, and log when it is time."""
        for name, value in figures.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        if (step + 1) % self.every:
            return
        self.live.step = step + 1
        for name, value in self.sums.items():
            self.live.log_metric(f"train/{name}", value / self.every)
        self.live.log_metric("train/steps_per_s", (step + 1 - self.first) / (time.time() - self.started))
        self.live.make_summary()
        self.sums = {}


def load_state(accelerator: Accelerator, state_dir: Path, owner: str) -> int:
    """Take up the newest complete state of this owner, if there is one, and return the number of steps it has seen."""
    for folder in (state_dir.with_name("state.new"), state_dir, state_dir.with_name("state.old")):
        saved = folder / "step.json"  # written last
        if saved.exists() and (state := json.loads(saved.read_text()))["owner"] == owner:
            if folder != state_dir:  # a kill came between two renames
                shutil.rmtree(state_dir, ignore_errors=True)
                folder.rename(state_dir)
            accelerator.load_state(str(state_dir))
            return state["step"]
    return 0


def save_state(accelerator: Accelerator, state_dir: Path, step: int, owner: str) -> None:
    """Replace the saved state as a whole, so that a kill at any moment leaves one complete state behind."""
    fresh, old = state_dir.with_name("state.new"), state_dir.with_name("state.old")
    for folder in (fresh, old):
        shutil.rmtree(folder, ignore_errors=True)
    accelerator.save_state(str(fresh))
    (fresh / "step.json").write_text(json.dumps({"step": step, "owner": owner}))
    if state_dir.exists():
        state_dir.rename(old)
    fresh.rename(state_dir)
    shutil.rmtree(old, ignore_errors=True)
