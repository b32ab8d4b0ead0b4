"""`fourdistill export`: write an adapter in a format that other programs read."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fourdistill.errors import InputError
from fourdistill.shipped import default_adapter, default_base
from fourdistill.storage.files import check_writable, check_writable_folder

EXAMPLES = """Examples:

`fourdistill export --format ip-adapter --out ip-adapter-plus_mine.safetensors`

`fourdistill export --adapter models/adapter --format pipeline --out models/whole`
"""


class Format(StrEnum):
    """The output format."""

    ip_adapter = "ip-adapter"
    pipeline = "pipeline"


def run(
    out: Annotated[
        Path, typer.Option(readable=False, help="File (ip-adapter: .safetensors) or folder (pipeline) to write.")
    ],
    format_name: Annotated[
        Format,
        typer.Option(
            "--format",
            help="ip-adapter: the image prompt, for stock diffusers' load_ip_adapter; "
            "pipeline: base and adapter in one folder, for FourDistillPipeline.from_pretrained.",
        ),
    ],
    adapter: Annotated[str | None, typer.Option(help="Folder or Hub name; models/mini-adapter by default.")] = None,
    base: Annotated[str | None, typer.Option(help="Folder or Hub id; data/base/mini by default.")] = None,
    image_encoder: Annotated[str | None, typer.Option(help="CLIP vision tower, for a base without one.")] = None,
) -> None:
    """Write an adapter in a format that other programs read."""
    if format_name is Format.pipeline:
        if not may_become_pipeline(out):
            raise InputError(f"{out}: expected a new or empty folder, or that of a pipeline, which is overwritten")
        check_writable_folder(out, "--out")
    else:
        if out.suffix.lower() != ".safetensors":
            raise InputError(f"{out}: expected a name that ends in .safetensors")
        check_writable(out, "--out")
    base, adapter = default_base(base), default_adapter(adapter)

    from fourdistill.inference.saving import find_adapter
    from fourdistill.ip_adapter_files import left_out, write_ip_adapter
    from fourdistill.models.adapter import Adapter
    from fourdistill.models.base.model import load_base

    if format_name is Format.pipeline:
        from fourdistill.inference.pipeline import FourDistillPipeline

        FourDistillPipeline.from_pretrained(base, adapter, image_encoder=image_encoder).save_pretrained(out)
        typer.echo(f"{out}: a pipeline for fourdistill.FourDistillPipeline.from_pretrained")
        return
    loaded = load_base(base, with_ip_adapter=False, image_encoder=image_encoder)
    read = Adapter.load(find_adapter(base, adapter), loaded)
    write_ip_adapter(out, read, loaded.unet)
    typer.echo(f"{out}: an IP-Adapter for load_ip_adapter; without {', '.join(left_out(read))}")


def may_become_pipeline(folder: Path) -> bool:
    """Whether a path is free, an empty folder, or a pipeline that may be overwritten."""
    if not folder.exists() or (folder / "model_index.json").is_file():
        return True
    return folder.is_dir() and not any(folder.iterdir())
