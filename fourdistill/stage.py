"""The command line that every stage script shares."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from fourdistill.config import Params, dump_params, load_params
from fourdistill.errors import InputError, refusals_as_input_errors
from fourdistill.progress import stage_progress


def run_stage(main: Callable[[Params], None]) -> None:
    """Run `main` on the parameters named on the command line.

    An `InputError`, or what the machine refuses, becomes one line and exit status 2.
    """

    def command(
        params: Annotated[Path, typer.Option(help="The parameters file.")] = Path("params.yaml"),
        over: Annotated[Path | None, typer.Option(help="A file of parameters that take the place of those.")] = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved parameters and stop.")] = False,
    ) -> None:
        try:
            with refusals_as_input_errors():
                resolved = load_params(params, over)
                if dry_run:
                    typer.echo(dump_params(resolved))
                else:
                    with stage_progress():
                        main(resolved)
        except InputError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(2) from error

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(help=main.__doc__)(command)
    app()
