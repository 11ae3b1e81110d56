"""``sfumato keys``: which callers are let in, and what each may use. Works on the store, as its
operator."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfumato.cli.credentials import described, seconds_of, show_all, show_revoked, show_secret
from sfumato.cli.options import Data, Json, load_settings
from sfumato.core.keys import GUIDANCE_LIMITS, ROLES, KeyLimits, Scope
from sfumato.core.webhooks import Webhook

if TYPE_CHECKING:
    from sfumato.core.keys import ApiKey

app = typer.Typer(
    help="Keys that let in callers.",
    epilog="Example: sfumato keys create --name the-bot --daily-images 500",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class Role(StrEnum):
    """The choices of :data:`sfumato.core.keys.ROLES`."""

    USER = "user"
    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


@app.command(epilog="Example: sfumato keys create --name ci --role user --rate 2 --days 90")
def create(  # noqa: PLR0917 - typer calls it by name; the order is that of the help
    name: Annotated[str, typer.Option(help="Tells people whose it is.")],
    role: Annotated[
        Role,
        typer.Option(
            help="user: makes jobs and sees its own. viewer: sees everything, changes nothing. "
            "operator: both, and the models. admin: everything."
        ),
    ] = Role.USER,
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="In place of a role: what it allows; may be given again."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="A model that it may use; may be given again. Left out: every one."),
    ] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(help="A runtime that it may use; may be given again. Left out: every one."),
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Jobs a second, on the long run.")] = None,
    burst: Annotated[int, typer.Option(help="Jobs at once beyond the rate.")] = 1,
    concurrency: Annotated[int | None, typer.Option(help="Jobs that wait or run at once.")] = None,
    daily_images: Annotated[int | None, typer.Option(help="Pictures a day, by UTC.")] = None,
    daily_gpu_seconds: Annotated[
        float | None, typer.Option(help="Seconds of loading and drawing a day, by UTC.")
    ] = None,
    guidance_limits: Annotated[
        bool,
        typer.Option(
            "--guidance-limits", help="10 jobs a second, 2 at once: the AWS guidance's own."
        ),
    ] = False,
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="Where to tell what becomes of its jobs.")
    ] = None,
    days: Annotated[
        float | None, typer.Option(min=0, help="How long it is good; for ever when left out.")
    ] = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Make a key and print it: this once, for only its digest is kept."""
    settings = load_settings(data)
    from sfumato.bootstrap.keys import create_key  # noqa: PLC0415

    limits = KeyLimits(rate, burst, concurrency, daily_images, daily_gpu_seconds)
    key, secret = create_key(
        settings,
        name=name,
        scopes=scope or ROLES[role],
        expires_in=seconds_of(days),
        models=model or (),
        runtimes=runtime or (),
        limits=GUIDANCE_LIMITS if guidance_limits else limits,
        webhook=None if webhook is None else Webhook(webhook),
    )
    show_secret(_described(key), "key", secret, json=json)


@app.command("list", epilog="Example: sfumato keys list --json")
def list_(data: Data = None, json: Json = False) -> None:
    """List the keys, oldest first; not what they are, only what is known of them."""
    settings = load_settings(data)
    from sfumato.bootstrap.keys import list_keys  # noqa: PLC0415

    show_all([_described(key) for key in list_keys(settings)], "scopes", json=json)


@app.command(epilog="Example: sfumato keys revoke 3f9c2a7d10b4")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID")], data: Data = None, json: Json = False
) -> None:
    """Refuse a key from its next call on; the jobs that it made go on."""
    settings = load_settings(data)
    from sfumato.bootstrap.keys import revoke_key  # noqa: PLC0415

    show_revoked(_described(revoke_key(settings, key_id)), json=json)


@app.command(epilog="Example: sfumato keys rotate 3f9c2a7d10b4")
def rotate(
    key_id: Annotated[str, typer.Argument(metavar="ID")], data: Data = None, json: Json = False
) -> None:
    """Give a key a new secret and print it; the old one is refused from its next call on."""
    settings = load_settings(data)
    from sfumato.bootstrap.keys import rotate_key  # noqa: PLC0415

    key, secret = rotate_key(settings, key_id)
    show_secret(_described(key), "key", secret, json=json)


def _described(key: ApiKey) -> dict[str, Any]:
    limits = {name: value for name, value in asdict(key.limits).items() if value is not None}
    return described(
        key,
        scopes=sorted(key.scopes),
        models=list(key.models),
        runtimes=list(key.runtimes),
        limits=limits,
    )
