"""Options that several commands share, and how they find the service to talk to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.core.errors import Unavailable

if TYPE_CHECKING:
    from sfumato.settings import Settings

Server = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Address of the service. Left out: the one that runs on the data folder.",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder of jobs, pictures and models (SFUMATO_DATA)."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def load_settings(data: Path | None = None, **overrides: object) -> Settings:
    """Raises ``StartupRefused``, naming the setting that is wrong."""
    from sfumato.settings import Settings  # noqa: PLC0415 - pydantic costs help its speed

    return Settings.load(data=data, **overrides)


def find_server(server: str | None, data: Path | None) -> str:
    """The address given, or that of the service running on the data folder.

    Raises:
        Unavailable: there is none, with what to do.
    """
    if server is not None:
        return server
    from sfumato.bootstrap.folder import running_service  # noqa: PLC0415

    settings = load_settings(data)
    url = running_service(settings)
    if url is None:
        raise Unavailable(
            f"No service runs on the data folder {settings.data}. "
            "Start one with `sfumato serve`, or name another with --server."
        )
    return url
