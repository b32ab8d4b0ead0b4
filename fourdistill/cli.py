"""The command line: collects the commands, each from its own module in `commands`."""

import functools
from collections.abc import Callable
from typing import Any

import typer

from fourdistill.commands import (
    demo,
    evaluate,
    export_adapter,
    fetch,
    generate,
    import_adapter,
    inspect,
    preset,
    push_shards,
)
from fourdistill.errors import InputError, refusals_as_input_errors

COMMANDS = {
    "generate": generate,
    "demo": demo,
    "inspect": inspect,
    "fetch": fetch,
    "evaluate": evaluate,
    "export": export_adapter,
    "import": import_adapter,
    "preset": preset,
    "push-shards": push_shards,
}
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="markdown")


@app.callback()
def root() -> None:
    """Joint control of time and viewpoint in text-to-image generation.

    Exit status 2 and one line where what was given is wrong.
    """


def with_status_2(command: Callable[..., None]) -> Callable[..., None]:
    """Wrap a command: an `InputError` or a refusal by the operating system becomes one line and exit status 2."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            with refusals_as_input_errors():
                command(*args, **kwargs)
        except InputError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(2) from error

    return run


for name, module in COMMANDS.items():
    app.command(name, epilog=module.EXAMPLES)(with_status_2(module.run))


if __name__ == "__main__":
    app()
