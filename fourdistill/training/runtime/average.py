"""A moving average of the trained weights, which is often better than the last of them."""

from collections.abc import Iterable

from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import nn


class WeightAverage:
    """diffusers' `EMAModel`, kept in checkpoints as the weights of one more model.

    accelerate would load an `EMAModel` that is registered with it from a pickle that may run anything.
    """

    def __init__(self, accelerator: Accelerator, parameters: Iterable[nn.Parameter], decay: float):
        self.parameters = list(parameters)
        self.ema = EMAModel(self.parameters, decay=decay, use_ema_warmup=True, power=0.75)
        same_memory = [nn.Parameter(value, requires_grad=False) for value in self.ema.shadow_params]
        accelerator.prepare_model(nn.ParameterList(same_memory), evaluation_mode=True)

    def resume(self, step: int) -> None:
        """Go on after `step` steps; how fast the average moves depends on their number."""
        self.ema.optimization_step = step

    def step(self) -> None:
        """Take in the weights after a step."""
        self.ema.step(self.parameters)

    def copy_to_model(self) -> None:
        """Put the average in the place of the weights."""
        self.ema.copy_to(self.parameters)
