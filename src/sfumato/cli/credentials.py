"""What the commands for keys and for worker tokens have in common: both are shown once, and end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import typer

from sfumato.cli.output import print_json, print_table

_DAY = 86_400.0


class Credential(Protocol):
    """A key or a token, as the store knows it. Times are seconds since 1970."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def created_at(self) -> float: ...
    @property
    def expires_at(self) -> float | None: ...
    @property
    def revoked_at(self) -> float | None: ...
    @property
    def used_at(self) -> float | None: ...


def seconds_of(days: float | None) -> float | None:
    return None if days is None else days * _DAY


def described(credential: Credential, **allows: Any) -> dict[str, Any]:
    """Everything but the secret.

    Args:
        allows: what it is good for.
    """
    now = datetime.now(UTC).timestamp()
    expired = credential.expires_at is not None and credential.expires_at <= now
    return {
        "id": credential.id,
        "name": credential.name,
        **allows,
        "created_at": _iso(credential.created_at),
        "expires_at": _iso(credential.expires_at),
        "revoked_at": _iso(credential.revoked_at),
        "used_at": _iso(credential.used_at),
        "state": "revoked" if credential.revoked_at else "expired" if expired else "good",
    }


def show_secret(known: Mapping[str, Any], kind: str, secret: str, *, json: bool) -> None:
    """Args:
    kind: ``key`` or ``token``.
    """
    if json:
        print_json({**known, kind: secret})
        return
    typer.echo(secret)
    ends = f"sfumato {kind}s revoke {known['id']}"
    typer.echo(f"Keep it: it is not shown again. `{ends}` ends it.", err=True)


def show_all(found: Sequence[Mapping[str, Any]], allows: str, *, json: bool) -> None:
    """Args:
    allows: the member that says what each is good for, a list.
    """
    if json:
        print_json(found)
        return
    rows = [
        (
            each["id"],
            each["name"],
            ", ".join(each[allows]),
            each["used_at"] or "never",
            each["revoked_at"] or each["expires_at"] or "",
            each["state"],
        )
        for each in found
    ]
    print_table(("ID", "NAME", allows.upper(), "LAST USED", "ENDS", "STATE"), rows)


def show_revoked(known: Mapping[str, Any], *, json: bool) -> None:
    if json:
        print_json(known)
    else:
        typer.echo(f"{known['name']} ({known['id']}) is revoked.")


def _iso(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
