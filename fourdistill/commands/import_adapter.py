"""`fourdistill import`: convert an IP-Adapter checkpoint to this project's format."""

from pathlib import Path
from typing import Annotated

import typer

from fourdistill.errors import InputError
from fourdistill.shipped import default_adapter, default_base
from fourdistill.storage.files import check_writable, check_writable_folder

EXAMPLES = """Examples:

`fourdistill import ip-adapter-plus_sd15.bin --out ip-adapter-plus_sd15.safetensors`

`fourdistill import mine.safetensors --base data/base/mini --adapter models/mini-adapter --out models/mine`
"""


def run(
    checkpoint: Annotated[
        Path,
        typer.Argument(readable=False, help="IP-Adapter: .safetensors, .bin, .pt, .pth or .ckpt."),
    ],
    out: Annotated[
        Path,
        typer.Option(
            readable=False,
            help="A .safetensors for `train.ip_adapter`, or the folder of an adapter with this image prompt.",
        ),
    ],
    base: Annotated[str | None, typer.Option(help="What it is for; data/base/mini by default.")] = None,
    adapter: Annotated[
        str | None, typer.Option(help="For a folder: whose settings and prior it gets; by default it has no prior.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the new words.")] = 0,
    image_encoder: Annotated[str | None, typer.Option(help="CLIP vision tower, for a base without one.")] = None,
) -> None:
    """Import an IP-Adapter checkpoint; no code in it is executed.

    Other kinds of checkpoints are refused, and the error names their kind. If the output is a folder, the checkpoint
    must fit the base, or the error says which number differs.
    """
    as_file = out.suffix.lower() == ".safetensors"
    if as_file:
        check_writable(out, "--out")
    elif out.exists() and not (out.is_dir() and ((out / "adapter.safetensors").is_file() or not any(out.iterdir()))):
        raise InputError(f"--out: expected a new or empty folder, or that of an adapter, found {out}")
    else:
        check_writable_folder(out, "--out")

    from fourdistill.inference.saving import find_adapter
    from fourdistill.ip_adapter_files import convert_ip_adapter, import_ip_adapter  # slow imports start here
    from fourdistill.models.adapter import Adapter
    from fourdistill.models.base.model import load_base

    if as_file:
        typer.echo(f"{out}: {convert_ip_adapter(checkpoint, out)}, for train.ip_adapter")
        return
    base, others = default_base(base), None
    if adapter is not None:
        loaded = load_base(base, with_ip_adapter=False, image_encoder=image_encoder)
        others = Adapter.load(find_adapter(base, default_adapter(adapter)), loaded)
    import_ip_adapter(checkpoint, base, others, seed, image_encoder).save(out)
    typer.echo(f"{out}: an adapter for {base}")
