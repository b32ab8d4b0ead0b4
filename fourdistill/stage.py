"""The command line that every stage script shares."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fourdistill.errors import InputError, refusals_as_input_errors
from fourdistill.progress import stage_progress

if TYPE_CHECKING:
    from fourdistill.params import Params


def run_stage(main: Callable[["Params"], None]) -> None:
    """Run `main` on the parameters named on the command line.

    An `InputError` or a refusal by the operating system becomes one line and exit status 2.
    """

    def command(
        params: Annotated[Path, typer.Option(help="The parameters file.")] = Path("params.yaml"),
        over: Annotated[Path | None, typer.Option(help="A file with some of them, whose values win.")] = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved parameters and stop.")] = False,
    ) -> None:
        try:
            with refusals_as_input_errors():
                # By name, so that it is no dependency in dvc.yaml: other stages' parameters change no result here.
                all_params = importlib.import_module("fourdistill.params")
                resolved = all_params.load_params(params, over)
                if dry_run:
                    typer.echo(all_params.dump_params(resolved))
                else:
                    with stage_progress():
                        main(resolved)
        except InputError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(2) from error

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(help=main.__doc__)(command)
    app()
