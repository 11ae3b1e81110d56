"""The user's own file of the service and key that commands take where nothing else is said.

``config.toml`` in the user's configuration folder (``~/.config/sfumato`` on Linux)::

    server = "https://pictures.example.com"
    key = "sfk_…"

It is written by nobody but the user.
"""

from __future__ import annotations

import stat
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from sfumato.core.errors import StartupRefused

_NAMES = ("server", "key")


@dataclass(frozen=True, slots=True)
class Config:
    """``key`` is for ``server`` and is shown nowhere else."""

    server: str | None = None
    key: str | None = field(default=None, repr=False)


def config_path() -> Path:
    return platformdirs.user_config_path("sfumato") / "config.toml"


def read_config() -> Config:
    """What the file says; nothing, where there is none.

    Raises:
        StartupRefused: it can't be read, says something else, or shows a key to other users.
    """
    path = config_path()
    try:
        with path.open("rb") as file:
            mode = path.stat().st_mode
            said = tomllib.load(file)
    except FileNotFoundError:
        return Config()
    except OSError as error:
        raise StartupRefused(f"{path} can't be read: {error.strerror}.", field="config") from None
    except ValueError:
        # Its own words would repeat the line, and the key may stand there.
        raise _refused(path, "is no TOML") from None
    for name, value in said.items():
        if name not in _NAMES:
            raise _refused(path, f"says {name!r}, which is no setting there")
        if not isinstance(value, str):
            raise _refused(path, f"has a {name} that is no text")
    if "key" in said and "server" not in said:
        raise _refused(path, "has a key, but not the server that it is for")
    if "key" in said and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise StartupRefused(
            f"{path} holds a key, and other users may read it. Make it yours alone: "
            f"chmod 600 {path}",
            field="config",
        )
    return Config(**said)


def _refused(path: Path, finding: str) -> StartupRefused:
    return StartupRefused(
        f"{path} {finding}.", field="config", accepted='server = "https://…" and key = "sfk_…"'
    )
