"""Stage `package`: write a small copy of a trained adapter to `models/mini-adapter`; other files there stay.

Weights are in half precision. The components of the prior's codes, its largest matrix, take one byte per number (e4m3):
the rounding error is small compared with what the codes leave out anyway.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from fourdistill.errors import InputError
from fourdistill.models.adapter import WEIGHTS_NAME, Adapter
from fourdistill.models.base.model import load_base

LIMIT_BYTES = 30_000_000


def package(
    adapter: Annotated[Path, typer.Argument(help="Folder of the trained adapter.")],
    out: Annotated[Path, typer.Argument(help="Folder that gets config.json and the weights.")],
    base: Annotated[str, typer.Option(help="The base that it is for.")] = "data/base/mini",
) -> None:
    """Write a small copy of an adapter."""
    try:
        small = Adapter.load(adapter, load_base(base)).half()
        small.config = replace(small.config, base=base)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    if small.prior is not None:
        small.prior.codec.components = small.prior.codec.components.to(torch.float8_e4m3fn)
    small.save(out, small.config.training)
    size = (out / WEIGHTS_NAME).stat().st_size
    if size > LIMIT_BYTES:
        print(f"error: {out / WEIGHTS_NAME}: expected at most {LIMIT_BYTES:,} bytes, wrote {size:,}", file=sys.stderr)
        raise typer.Exit(2)
    print(f"{out / WEIGHTS_NAME}: {size:,} bytes")


if __name__ == "__main__":
    typer.run(package)
