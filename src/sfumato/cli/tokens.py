"""``sfumato tokens``: which workers elsewhere are let in. Works on the store, as its operator."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfumato.cli.options import Data, Json, load_settings
from sfumato.cli.output import print_json, print_table

if TYPE_CHECKING:
    from sfumato.core.ports import WorkerToken

app = typer.Typer(
    help="Tokens that let in workers elsewhere.",
    epilog="Example: sfumato tokens create --name gaming-pc",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_DAY = 86_400.0


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
        expires_in=None if days is None else days * _DAY,
    )
    if json:
        print_json({**_described(token), "token": secret})
        return
    typer.echo(secret)
    typer.echo(
        f"Keep it: it is not shown again. `sfumato tokens revoke {token.id}` ends it.", err=True
    )


@app.command("list", epilog="Example: sfumato tokens list --json")
def list_(data: Data = None, json: Json = False) -> None:
    """List the tokens, oldest first; not what they are, only what is known of them."""
    settings = load_settings(data)
    from sfumato.bootstrap.tokens import list_tokens  # noqa: PLC0415

    found = [_described(token) for token in list_tokens(settings)]
    if json:
        print_json(found)
        return
    rows = [
        (
            token["id"],
            token["name"],
            ", ".join(token["runtimes"]),
            token["used_at"] or "never",
            token["revoked_at"] or token["expires_at"] or "",
            token["state"],
        )
        for token in found
    ]
    print_table(("ID", "NAME", "RUNTIMES", "LAST USED", "ENDS", "STATE"), rows)


@app.command(epilog="Example: sfumato tokens revoke 3f9c2a7d10b4")
def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID")], data: Data = None, json: Json = False
) -> None:
    """Refuse a token from its next call on; what its workers hold is queued again."""
    settings = load_settings(data)
    from sfumato.bootstrap.tokens import revoke_token  # noqa: PLC0415

    token = revoke_token(settings, token_id)
    if json:
        print_json(_described(token))
    else:
        typer.echo(f"{token.name} ({token.id}) is revoked.")


def _described(token: WorkerToken) -> dict[str, Any]:
    now = datetime.now(UTC).timestamp()
    expired = token.expires_at is not None and token.expires_at <= now
    return {
        "id": token.id,
        "name": token.name,
        "runtimes": list(token.runtimes),
        "created_at": _iso(token.created_at),
        "expires_at": _iso(token.expires_at),
        "revoked_at": _iso(token.revoked_at),
        "used_at": _iso(token.used_at),
        "state": "revoked" if token.revoked_at else "expired" if expired else "good",
    }


def _iso(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
