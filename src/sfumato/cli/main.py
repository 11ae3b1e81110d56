"""The commands, put together, and how their errors reach a person."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

import sfumato
from sfumato.cli import (
    batch,
    completion,
    costs,
    database,
    generate,
    jobs,
    keys,
    model_plan,
    models,
    reproduce,
    runtimes,
    service,
    tokens,
)
from sfumato.cli.output import error_facts, print_error

_INTERRUPTED = 130

app = typer.Typer(
    name="sfumato",
    help="Pictures from prompts, on GPUs that exist only while they are needed.",
    epilog='Example: sfumato generate "a castle at night"',
    no_args_is_help=True,
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
app.command(epilog="Example: sfumato batch prompts.jsonl --out pictures")(batch.batch)
app.command(epilog="Example: sfumato reproduce a-castle-at-night-7.png")(reproduce.reproduce)
app.command(epilog="Example: sfumato serve --port 8080 --data ~/sfumato")(service.serve)
app.command(epilog="Example: sfumato worker --data ~/sfumato --idle-timeout 60")(service.worker)
app.command(epilog="Example: sfumato doctor --json")(service.doctor)
app.command(epilog="Example: sfumato costs --by key --by day --since 2026-11-01")(costs.costs)
app.command(epilog="Example: sfumato version")(service.version)
app.command(epilog="Example: sfumato completion bash")(completion.completion)
app.add_typer(database.app, name="database")
models.app.command("plan", epilog="Example: sfumato models plan starter --batch 4 --json")(
    model_plan.plan
)
app.add_typer(jobs.app, name="jobs")
app.add_typer(keys.app, name="keys")
app.add_typer(models.app, name="models")
app.add_typer(runtimes.app, name="runtimes")
app.add_typer(tokens.app, name="tokens")


def main(arguments: Sequence[str] | None = None) -> None:
    """The ``sfumato`` command; exits with its status.

    0: done. 1: an error that was raised on purpose, told in one line. 2: a usage error, told by
    typer with the nearest names. 130: interrupted. After ``--json`` an error is a line of JSON.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    as_json = "--json" in (given[: given.index("--")] if "--" in given else given)
    try:
        status = app(given, prog_name="sfumato", standalone_mode=not as_json)
    except typer.TyperException as error:  # with --json alone; else typer has told it
        print_error({"code": "usage", "message": error.format_message()}, as_json=True)
        sys.exit(error.exit_code)
    except Exception as error:
        facts = error_facts(error)
        if facts is None:
            raise
        print_error(facts, as_json=as_json)
        sys.exit(1)
    if status == _INTERRUPTED:
        print_error({"code": "interrupted", "message": "Interrupted."}, as_json=True)
    sys.exit(status if isinstance(status, int) else 0)
