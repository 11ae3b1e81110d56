"""The data folder: one service at a time, which others can find through it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from sfumato.core.errors import DataFolderInUse, StartupRefused
from sfumato.settings import Settings


@contextlib.contextmanager
def hold(settings: Settings) -> Iterator[Callable[[str, float], None]]:
    """Hold the data folder for one service.

    Yields a function that announces the service's URL and start (seconds since the epoch) to
    whoever looks into the folder. The lock ends with the process, however it ends.

    Raises:
        DataFolderInUse: another service holds it; says which process.
        StartupRefused: the folder can't be made or written.
    """
    lock = _lock(settings.data)
    try:
        settings.data.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        other = _read(settings.data)
        who = f"process {other['pid']} at {other['url']}" if other else "another process"
        raise DataFolderInUse(
            f"The data folder {settings.data} is in use by {who}. Stop that service, talk to it "
            "with --server, or give this one another folder with --data.",
            field="data",
        ) from None
    except OSError as error:
        raise StartupRefused(
            f"The data folder {settings.data} can't be used: {error.strerror}. Give another with "
            "--data or SFUMATO_DATA.",
            field="data",
        ) from None
    announcement = _announcement(settings.data)

    def announce(url: str, started_at: float) -> None:
        announcement.write_text(
            json.dumps({"pid": os.getpid(), "url": url, "started_at": started_at})
        )

    try:
        yield announce
    finally:
        announcement.unlink(missing_ok=True)
        lock.release()


def running_service(settings: Settings) -> str | None:
    """URL of the service that holds the data folder now; None when none does."""
    other = _read(settings.data)
    if other is None:
        return None
    lock = _lock(settings.data)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return other["url"]
    except OSError:
        return None
    lock.release()
    return None


def _lock(folder: Path) -> FileLock:
    return FileLock(folder / "service.lock")


def _announcement(folder: Path) -> Path:
    return folder / "service.json"


def _read(folder: Path) -> dict[str, str] | None:
    try:
        content = json.loads(_announcement(folder).read_text())
        return {"pid": str(content["pid"]), "url": str(content["url"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None
