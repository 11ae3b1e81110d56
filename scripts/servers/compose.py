"""The servers of compose.yaml, where there is a Docker engine."""

from __future__ import annotations

import subprocess
from pathlib import Path

from scripts.servers.registry import Entry, Registry

_ROOT = Path(__file__).parents[2]

#: As compose.yaml publishes them.
_URLS = {
    "postgres": "postgresql://sfumato:sfumato@127.0.0.1:55432/postgres",
    "rabbitmq": "amqp://guest:guest@127.0.0.1:55672/",
    "s3": "http://127.0.0.1:58333",
    "aws": "http://127.0.0.1:55000",
}


def up() -> None:
    _compose("up", "--detach", "--wait", "--quiet-pull")
    registry = Registry.read()
    registry.servers.update({name: Entry(url, compose=True) for name, url in _URLS.items()})
    registry.write()


def down() -> None:
    """Stop them, if it was us who started them."""
    if any(entry.compose for entry in Registry.read().servers.values()):
        _compose("down", "--volumes")


def _compose(*arguments: str) -> None:
    try:
        subprocess.run(["docker", "compose", *arguments], cwd=_ROOT, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(
            f"Docker Compose did not do it ({error}). Without --docker no engine is needed."
        ) from None
