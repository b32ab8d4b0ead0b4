"""`fourdistill push-shards`: upload shards to an address, from which training streams them."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

EXAMPLES = "`fourdistill push-shards data/shards s3://bucket/mocap/`"


def run(
    folder: Annotated[Path, typer.Argument(readable=False, help="Shards of `write_shards`, with their index.")],
    address: Annotated[str, typer.Argument(help="Where to: `s3://bucket/prefix/`, or another address of fsspec.")],
    replace: Annotated[bool, typer.Option("--replace", help="Other shards that are there may go.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Tars sent at a time.")] = 4,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Upload shards to an address from which training streams them: tars first, the index last.

    Tars that are there already with the same size and checksum are not sent again. Credentials and endpoint are set the
    usual AWS way (AWS_PROFILE, AWS_ENDPOINT_URL ...). Exit status 2 if the input or the access is not as expected.
    """
    from fourdistill.shards.publish import publish_shards  # both import torch, which takes seconds
    from fourdistill.storage.store import INDEX

    total = sum(path.stat().st_size for path in folder.glob("*.tar"))
    columns = [TextColumn("push-shards"), BarColumn(), DownloadColumn(), TransferSpeedColumn()]
    console = Console(stderr=True)
    hidden = as_json or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        bar = progress.add_task("push-shards", total=total)
        published = publish_shards(
            folder, address, replace=replace, jobs=jobs, on_progress=lambda _, size: progress.advance(bar, size)
        )
    if as_json:
        typer.echo(json.dumps(asdict(published), indent=2))
    else:
        typer.echo(
            f"{len(published.uploaded)} tars sent ({published.bytes / 1e6:.1f} MB), {len(published.skipped)} were "
            f"there; {INDEX} is at {address}"
        )
