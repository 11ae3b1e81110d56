"""The commands, put together, and how their errors reach a person."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

import sfumato
from sfumato.cli import generate, jobs, keys, models, reproduce, runtimes, service, tokens
from sfumato.cli.output import as_error_line, print_error

app = typer.Typer(
    name="sfumato",
    help="Pictures from prompts, on GPUs that exist only while they are needed.",
    epilog='Example: sfumato generate "a castle at night"',
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sfumato {sfumato.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print it and exit."
    ),
) -> None:
    del version


app.command(epilog='Example: sfumato generate "a castle at night" --seed 7 --num-images 4')(
    generate.generate
)
app.command(epilog="Example: sfumato reproduce a-castle-at-night-7.png")(reproduce.reproduce)
app.command(epilog="Example: sfumato serve --port 8080 --data ~/sfumato")(service.serve)
app.command(epilog="Example: sfumato worker --data ~/sfumato --idle-timeout 60")(service.worker)
app.command(epilog="Example: sfumato doctor --json")(service.doctor)
app.command(epilog="Example: sfumato version")(service.version)
app.add_typer(jobs.app, name="jobs")
app.add_typer(keys.app, name="keys")
app.add_typer(models.app, name="models")
app.add_typer(runtimes.app, name="runtimes")
app.add_typer(tokens.app, name="tokens")


def main(arguments: Sequence[str] | None = None) -> None:
    """The ``sfumato`` command; exits with its status.

    0: done. 1: an error that was raised on purpose, told in one red line. 2: a usage error, told
    by typer with the nearest names. 130: interrupted.
    """
    try:
        app(arguments, prog_name="sfumato")
    except Exception as error:
        line = as_error_line(error)
        if line is None:
            raise
        print_error(line)
        sys.exit(1)
