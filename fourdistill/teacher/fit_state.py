"""The state of a fit and its checkpoints: a model, the running average of its weights, and Adam's moments."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fourdistill.errors import InputError
from fourdistill.storage.files import new_file


class FitState:
    """A model with Adam; `groups` are the optimizer's parameter groups with their learning rates."""

    def __init__(self, model: nn.Module, groups: list[dict[str, Any]]):
        self.model = model
        self.average = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self.rates = [group["lr"] for group in groups]
        # Most of a model's values have tiny gradients: a larger epsilon would suppress their updates.
        self.optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-12, fused=True)

    def set_rate(self, factor: float) -> None:
        """Set every learning rate to `factor` times its initial value."""
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor

    @torch.no_grad()
    def update_average(self, step: int) -> None:
        """Move the running average towards the weights."""
        decay = min(0.99, step / (step + 100))
        for name, value in self.model.state_dict().items():
            self.average[name].lerp_(value, 1 - decay)

    def save(self, path: Path, identity: str, passes: int) -> None:
        """Write a checkpoint of the fit `identity` after a number of passes, atomically."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        for number, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{number}.{name}": value for name, value in moments.items()}
        with new_file(path) as partial:
            save_file(tensors, partial, metadata={"identity": identity, "passes": str(passes)})

    def load(self, path: Path, identity: str) -> int:
        """Load a checkpoint; returns the number of completed passes.

        Raises `InputError` if it cannot be read or belongs to another fit.
        """
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path}: expected a checkpoint in safetensors, found none that can be read") from error
        if metadata.get("identity") != identity:
            raise InputError(f"{path}: expected a checkpoint of this fit; remove it to start anew")
        by_part: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "adam": {}}
        for name, value in tensors.items():
            part, _, rest = name.partition(".")
            by_part[part][rest] = value
        self.model.load_state_dict(by_part["model"])
        self.average = {name: value.to(self.average[name].device) for name, value in by_part["average"].items()}
        state = self.optimizer.state_dict()
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in by_part["adam"].items():
            number, _, moment = name.partition(".")
            moments.setdefault(int(number), {})[moment] = value
        self.optimizer.load_state_dict({**state, "state": moments})
        return int(metadata["passes"])
