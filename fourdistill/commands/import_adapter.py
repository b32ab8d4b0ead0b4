"""`fourdistill import`: an IP-Adapter checkpoint, as this project takes it."""

from pathlib import Path
from typing import Annotated

import typer

from fourdistill.errors import InputError
from fourdistill.shipped import default_base

EXAMPLES = """Examples:

`fourdistill import ip-adapter-plus_sd15.bin --out ip-adapter-plus_sd15.safetensors`

`fourdistill import mine.safetensors --base data/base/mini --adapter models/mini-adapter --out models/mine`
"""


def run(
    checkpoint: Annotated[Path, typer.Argument(help="IP-Adapter Plus, .bin or .safetensors.")],
    out: Annotated[
        Path,
        typer.Option(help="A .safetensors for `train.ip_adapter`, or the folder of an adapter with this image prompt."),
    ],
    base: Annotated[str | None, typer.Option(help="What it is for; data/base/mini by default.")] = None,
    adapter: Annotated[
        str | None, typer.Option(help="For a folder: whose mappers and prior it gets; by default new, untrained ones.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the new mappers.")] = 0,
    image_encoder: Annotated[str | None, typer.Option(help="CLIP vision tower, for a base without one.")] = None,
) -> None:
    """Take in an IP-Adapter checkpoint; nothing in it is executed.

    A file is converted as it is. For a folder it must fit the base, or the error says which number differs.
    """
    from fourdistill.formats import convert_ip_adapter, import_ip_adapter

    if out.suffix == ".safetensors":
        convert_ip_adapter(checkpoint, out)
        typer.echo(f"{out}: an IP-Adapter Plus for train.ip_adapter")
        return
    if out.exists() and not (out.is_dir() and ((out / "adapter.safetensors").is_file() or not any(out.iterdir()))):
        raise InputError(f"--out: expected a new or empty folder, or that of an adapter, found {out}")
    from fourdistill.inference.saving import find_adapter
    from fourdistill.models.adapter import Adapter
    from fourdistill.models.base import load_base

    base = base or default_base()
    others = (
        None
        if adapter is None
        else Adapter.load(
            find_adapter(base, adapter), load_base(base, with_ip_adapter=False, image_encoder=image_encoder)
        )
    )
    import_ip_adapter(checkpoint, base, others, seed, image_encoder).save(out)
    typer.echo(f"{out}: an adapter for {base}")
