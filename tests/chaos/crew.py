"""The processes of a run: one service, the workers beside it, and whoever starts them again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import psutil

from tests.chaos.clock import set_offset

#: Seconds before a process that has ended is started again.
_RESTART_SECONDS = 0.2


class Role:
    """One process that is to be there always: when it ends, another takes its place.

    Attributes:
        starts: how often it was started.
        log: what all of them printed.
    """

    def __init__(self, role: str, name: str, folder: Path, settings: Mapping[str, object]) -> None:
        self._role = role
        self.name = name
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("SFUMATO_")},
            **{f"SFUMATO_{key.upper()}": str(value) for key, value in settings.items()},
        }
        self.clock = folder / f"{name}.clock"
        self.log = folder / f"{name}.log"
        self.starts = 0
        self.process: asyncio.subprocess.Process | None = None
        self._keeping: asyncio.Task[None] | None = None
        set_offset(self.clock, 0)

    def begin(self) -> None:
        self._keeping = asyncio.create_task(self._keep(), name=f"keep-{self.name}")

    async def end(self) -> int | None:
        """Ask it to stop, and start no other; answers its exit status."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait((self._keeping,))
        if self.process is None:
            return None
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(30):
                return await self.process.wait()
        except TimeoutError:
            self.kill_family()
            return await self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    def family(self) -> list[psutil.Process]:
        """Its process, and all below it."""
        if self.process is None or self.process.returncode is not None:
            return []
        try:
            head = psutil.Process(self.process.pid)
            return [head, *head.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def kill_family(self) -> None:
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    async def _keep(self) -> None:
        while True:
            self.starts += 1
            command = ["tests.chaos.entry", self._role, f"--clock={self.clock}"]
            with self.log.open("ab") as log:
                self.process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *("-m", *command, f"--name={self.name}-{self.starts}"),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self._environment,
                    start_new_session=True,
                )
            await self.process.wait()
            await asyncio.sleep(_RESTART_SECONDS)


class Crew:
    """A service, the workers that it starts itself, and some beside it. ``async with`` it.

    Args:
        workers: how many in all; every other one is the service's.
        settings: of every process.
    """

    def __init__(self, folder: Path, *, workers: int, settings: Mapping[str, object]) -> None:
        beside = (workers + 1) // 2
        self.service = Role(
            "service", "service", folder, {**settings, "max_workers": workers - beside}
        )
        self.workers = [
            Role("worker", f"beside{number}", folder, settings) for number in range(1, beside + 1)
        ]
        self.statuses: dict[str, int | None] = {}

    @property
    def roles(self) -> list[Role]:
        return [self.service, *self.workers]

    def worker_processes(self) -> list[psutil.Process]:
        return [process for role in self.workers for process in role.family()] + (
            self.service.family()[1:]
        )

    async def __aenter__(self) -> Self:
        for role in self.roles:
            role.begin()
        return self

    async def leave(self) -> None:
        """Stop everybody in order, the workers first."""
        for role in reversed(self.roles):
            self.statuses[role.name] = await role.end()

    async def __aexit__(self, *_: object) -> None:
        families = [process for role in self.roles for process in role.family()]
        if not self.statuses:
            for role in self.roles:
                role.kill_family()
                await role.end()
        for process in families:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def tracebacks(self) -> list[str]:
        """The last line of every traceback in the logs, with the process it came from."""
        found = []
        for role in self.roles:
            inside = False
            for line in role.log.read_text(errors="replace").splitlines():
                if line.startswith("Traceback"):
                    inside = True
                elif inside and line and not line.startswith((" ", "\t")):
                    found.append(f"{role.name}: {line[:200]}")
                    inside = False
        return found
