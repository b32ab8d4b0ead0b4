"""4D data distilled into two small networks that steer a frozen diffusion model in time and viewpoint."""

import logging
import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fourdistill.inference.inputs import ConditionImage
    from fourdistill.inference.pipeline import FourDistillPipeline

# OpenMP reads this when torch loads it. Waiting threads then sleep instead of spinning: with other work on the same
# cores, spinning made training seven times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Importing diffusers makes transformers warn that torchvision is missing, which nothing here needs.
logging.getLogger("transformers.utils.import_utils").addFilter(
    lambda record: "requires torchvision (not installed)" not in record.getMessage()
)

__version__ = "0.2.0"
__all__ = ["ConditionImage", "FourDistillPipeline"]

_HOMES = {  # the module of each name, imported on first use because importing torch takes seconds
    "ConditionImage": "fourdistill.inference.inputs",
    "FourDistillPipeline": "fourdistill.inference.pipeline",
}


def __getattr__(name: str) -> Any:
    """The names of `__all__`, imported at their first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
