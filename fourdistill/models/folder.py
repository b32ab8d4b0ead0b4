"""A model as a folder: its weights as safetensors, and `config.json`, which marks it as complete."""

import json
import textwrap
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from fourdistill.errors import InputError
from fourdistill.models.base.weight_files import check_safetensors, save_weights

CONFIG_NAME = "config.json"


def save_model(folder: Path, module: nn.Module, weights_name: str, config: dict[str, Any]) -> None:
    """Write a module's weights, then its configuration; an interrupted write never looks complete.

    Weights are written in the module's precision: call `module.half()` first to halve the size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_NAME).unlink(missing_ok=True)
    temporary = folder / f".{weights_name}.tmp"
    save_weights(module.state_dict(), temporary, folder / weights_name)
    temporary.replace(folder / weights_name)
    temporary = folder / f".{CONFIG_NAME}.tmp"
    temporary.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    temporary.replace(folder / CONFIG_NAME)


def load_weights(module: nn.Module, path: Path, prefix: str = "") -> None:
    """Load the weights of a file, or those under a prefix, into a module, in the module's precision.

    Raises `InputError` if they are damaged or do not fit the module.
    """
    check_safetensors(path, expected=f"the weights of {CONFIG_NAME}")
    try:
        weights = load_file(path)
        module.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = textwrap.shorten(str(error), 400)  # the message may list every weight
        raise InputError(f"{path}: expected the weights of {CONFIG_NAME}: {reason}") from error
