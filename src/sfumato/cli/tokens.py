"""``sfumato tokens``: which workers elsewhere are let in. Works on the store, as its operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfumato.cli.credentials import described, seconds_of, show_all, show_revoked, show_secret
from sfumato.cli.options import Data, Json, load_settings

if TYPE_CHECKING:
    from sfumato.core.ports import WorkerToken

app = typer.Typer(
    help="Tokens that let in workers elsewhere.",
    epilog="Example: sfumato tokens create --name gaming-pc",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command(epilog="Example: sfumato tokens create --name gaming-pc --runtime default --days 90")
def create(
    name: Annotated[str, typer.Option(help="Tells people whose it is.")],
    runtime: Annotated[
        list[str] | None,
        typer.Option(help="A pool that its workers may work for; may be given again."),
    ] = None,
    days: Annotated[
        float | None, typer.Option(min=0, help="How long it is good; for ever when left out.")
    ] = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Make a worker token and print it: this once, for only its digest is kept."""
    settings = load_settings(data)
    from sfumato.bootstrap.tokens import create_token  # noqa: PLC0415

    token, secret = create_token(
        settings,
        name=name,
        runtimes=runtime or ["default"],
        expires_in=seconds_of(days),
    )
    show_secret(_described(token), "token", secret, json=json)


@app.command("list", epilog="Example: sfumato tokens list --json")
def list_(data: Data = None, json: Json = False) -> None:
    """List the tokens, oldest first; not what they are, only what is known of them."""
    settings = load_settings(data)
    from sfumato.bootstrap.tokens import list_tokens  # noqa: PLC0415

    show_all([_described(token) for token in list_tokens(settings)], "runtimes", json=json)


@app.command(epilog="Example: sfumato tokens revoke 3f9c2a7d10b4")
def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID")], data: Data = None, json: Json = False
) -> None:
    """Refuse a token from its next call on; what its workers hold is queued again."""
    settings = load_settings(data)
    from sfumato.bootstrap.tokens import revoke_token  # noqa: PLC0415

    show_revoked(_described(revoke_token(settings, token_id)), json=json)


def _described(token: WorkerToken) -> dict[str, Any]:
    return described(token, runtimes=list(token.runtimes))
