"""`fourdistill fetch`: download public data sets."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fourdistill.sources.public.catalogue import DATASETS, find_dataset

EXAMPLES = "`fourdistill fetch neural-3d-video --part coffee_martini`"


def run(
    name: Annotated[str | None, typer.Argument(help="Of the data set; without it, all are listed.")] = None,
    part: Annotated[list[str] | None, typer.Option(help="Only this part of it; may be repeated.")] = None,
    out: Annotated[
        Path | None, typer.Option(readable=False, help="Folder of the scenes; `data/raw/NAME` by default.")
    ] = None,
    downloads: Annotated[Path, typer.Option(readable=False, help="Where archives are kept.")] = Path(
        "~/.cache/fourdistill"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print the table, or what was fetched, as JSON.")] = False,
) -> None:
    """Fetch a public data set: resume the download, verify, unpack. Mind the licences.

    Exit status 2 if the download fails or its content is not as published.
    """
    if name is None:
        _print_datasets(as_json)
        return
    from fourdistill.sources.public.fetch import fetch

    dataset = find_dataset(name)
    folder = out or Path("data/raw") / name
    fetched = fetch(dataset, dataset.choose(part or []), folder, downloads.expanduser())
    if as_json:
        typer.echo(json.dumps([asdict(archive) for archive in fetched], indent=2))
        return
    for archive in fetched:
        typer.echo(f"{archive.part}: {archive.num_files} files, SHA-256 {archive.sha256}")
    source = f"{{name: {folder.name}, format: {dataset.format}}}"
    typer.echo(f"{folder}: licence {dataset.licence}; sources: [{source}]")


def _print_datasets(as_json: bool) -> None:
    """Print all known public data sets."""
    if as_json:
        typer.echo(json.dumps([asdict(dataset) for dataset in DATASETS], indent=2))
        return
    for dataset in DATASETS:
        typer.echo(f"{dataset.name}: {dataset.title}\n  licence {dataset.licence}; {dataset.homepage}")
        for archive in dataset.archives:
            size = "size not published" if archive.size is None else f"{archive.size / 1e6:.1f} MB"
            checked = "" if archive.sha256 else ", no checksum published"
            typer.echo(f"  --part {archive.part}: {size}{checked}")
        if dataset.note:
            typer.echo(f"  {dataset.note}")
