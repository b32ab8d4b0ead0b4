"""A moving average of the trained weights, which is often better than the final weights."""

from collections.abc import Iterable

from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import nn


class WeightAverage:
    """diffusers' `EMAModel`, stored in checkpoints as the weights of an additional model.

    accelerate would load a registered `EMAModel` from a pickle, which can run arbitrary code.
    """

    def __init__(self, accelerator: Accelerator, parameters: Iterable[nn.Parameter], decay: float):
        self.parameters = list(parameters)
        self.ema = EMAModel(self.parameters, decay=decay, use_ema_warmup=True, power=0.75)
        same_memory = [nn.Parameter(value, requires_grad=False) for value in self.ema.shadow_params]
        accelerator.prepare_model(nn.ParameterList(same_memory), evaluation_mode=True)

    def resume(self, step: int) -> None:
        """Resume after `step` steps; the decay of the average depends on their number."""
        self.ema.optimization_step = step

    def step(self) -> None:
        """Update the average with the weights after a step."""
        self.ema.step(self.parameters)

    def copy_to_model(self) -> None:
        """Replace the weights by the average."""
        self.ema.copy_to(self.parameters)
