"""``sfumato database``: what an operator does to the database itself."""

from __future__ import annotations

import typer

from sfumato.cli.options import Data, Json, load_settings
from sfumato.cli.output import print_json

app = typer.Typer(
    help="The database of jobs.",
    epilog="Example: sfumato database migrate",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def _group() -> None:
    """Keeps the one command a subcommand."""


@app.command(epilog="Example: sfumato database migrate --json")
def migrate(data: Data = None, json: Json = False) -> None:
    """Bring the schema up to date, ahead of a new version's processes.

    They do it by themselves, too; done before, a failure leaves the old ones at work.
    """
    settings = load_settings(data)
    from sfumato.bootstrap.database import migrate_database  # noqa: PLC0415

    revision = migrate_database(settings)
    if json:
        print_json({"schema": revision})
    else:
        typer.echo(f"The database has schema {revision}.")
