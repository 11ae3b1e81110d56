"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sfumato.settings import Settings, TerminalVariables

Server = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Address of the service. Left out: SFUMATO_SERVER, the one in your config.toml, or the "
        "one that runs on the data folder.",
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help="An API key of that service. Others see it; SFUMATO_KEY and config.toml hide it.",
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


def load_terminal() -> TerminalVariables:
    from sfumato.settings import TerminalVariables  # noqa: PLC0415

    return TerminalVariables()
