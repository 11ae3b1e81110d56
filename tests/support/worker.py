"""A worker elsewhere as a child process, to be drained and killed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tests.support.service import PATIENCE


def sfumato(*arguments: str, data: Path) -> str:
    """What a command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "sfumato", *arguments, f"--data={data}"],
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    return done.stdout.strip()


def new_token(data: Path, *, name: str = "pc") -> str:
    return sfumato("tokens", "create", f"--name={name}", data=data)


def environment(settings: Mapping[str, Any]) -> dict[str, str]:
    """This process's environment with these settings alone."""
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("SFUMATO_")},
        **{f"SFUMATO_{key.upper()}": str(value) for key, value in settings.items()},
    }


class WorkerProcess:
    """``sfumato worker``; ``with`` it, and no process of it is left behind.

    Args:
        data: its own data folder, or the service's for a worker beside it.
        settings: more settings, without the ``SFUMATO_`` prefix.
        profile_imports: have each imported module told in its log.
    """

    def __init__(
        self,
        data: Path,
        *arguments: str,
        settings: Mapping[str, Any] | None = None,
        profile_imports: bool = False,
    ) -> None:
        self.log: list[str] = []
        self._more = threading.Condition()
        self._ended = False
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sfumato", "worker", f"--data={data}", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                **environment({"device": "fake", **(settings or {})}),
                "PYTHONPROFILEIMPORTTIME": "1" if profile_imports else "",
            },
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.wait()

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._more:
                self.log.append(line.rstrip())
                self._more.notify_all()
        with self._more:
            self._ended = True
            self._more.notify_all()

    def wait_for(self, words: str) -> str:
        """The first line of its log that holds ``words``."""

        def found() -> list[str]:
            return [line for line in self.log if words in line]

        with self._more:
            self._more.wait_for(lambda: found() or self._ended, timeout=PATIENCE)
            assert found(), "\n".join(self.log)
            return found()[0]
