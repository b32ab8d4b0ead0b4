"""`fourdistill preset`: a file of values into `params.yaml`."""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """Example:

`fourdistill preset original && dvc exp run -S lambda=0.3`
"""


def run(
    names: Annotated[list[str], typer.Argument(help="A YAML file, or a name in configs/presets or configs/bases.")],
    params: Annotated[Path, typer.Option(help="The parameters file.")] = Path("params.yaml"),
) -> None:
    """Write the values of presets into params.yaml, one after the other.

    Comments and all other values stay; `git diff params.yaml` shows what changed, `git checkout params.yaml` undoes it.
    """
    from fourdistill.presets import apply_preset

    for name in names:
        for line in apply_preset(name, params) or ["nothing changed"]:
            typer.echo(f"{name}: {line}")
