"""Workers as child processes of the service, on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sfumato.core.errors import Unavailable
from sfumato.core.ports import WorkerExit


@dataclass(slots=True)
class _Child:
    worker: str
    runtime: str
    process: asyncio.subprocess.Process
    told_to_stop: bool = False


class ProcessWorkerPool:
    """Starts ``command(runtime, worker, now)`` for each worker; ``now``: seconds since the epoch.

    A child runs in a session of its own, so that Ctrl-C in a terminal reaches the service alone,
    which then drains its workers. It holds the reading end of a pipe as its standard input: when
    the service dies, however it dies, the pipe ends and the child drains and exits.
    """

    def __init__(
        self, command: Callable[[str, str, float], Sequence[str]], *, environment: Mapping[str, str]
    ) -> None:
        self._command = command
        self._environment = environment
        self._children: dict[str, _Child] = {}
        self._waiting: set[asyncio.Task[None]] = set()
        self._ended: asyncio.Queue[WorkerExit] = asyncio.Queue()
        self._numbers = itertools.count(1)

    async def start(self, runtime: str) -> str:
        worker = f"{runtime}-{os.getpid()}-{next(self._numbers)}"
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command(runtime, worker, time.time()),
                stdin=asyncio.subprocess.PIPE,
                env=dict(self._environment),
                start_new_session=True,
            )
        except OSError as error:
            raise Unavailable(
                f"No worker process can be started: {error.strerror}. Queued jobs are kept."
            ) from error
        child = _Child(worker, runtime, process)
        self._children[worker] = child
        task = asyncio.create_task(self._wait(child), name=f"wait-{worker}")
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)
        return worker

    def running(self, runtime: str) -> Sequence[str]:
        return [child.worker for child in self._children.values() if child.runtime == runtime]

    async def ended(self) -> WorkerExit:
        return await self._ended.get()

    async def stop(self, *, grace: float) -> None:
        for child in self._children.values():
            child.told_to_stop = True
            with contextlib.suppress(ProcessLookupError):
                child.process.send_signal(signal.SIGTERM)
        if self._waiting:
            await asyncio.wait(self._waiting, timeout=grace)
        for child in list(self._children.values()):
            with contextlib.suppress(ProcessLookupError):
                child.process.kill()
        if self._waiting:
            await asyncio.wait(self._waiting)

    async def _wait(self, child: _Child) -> None:
        code = await child.process.wait()
        del self._children[child.worker]
        crashed = code != 0 and not child.told_to_stop
        self._ended.put_nowait(
            WorkerExit(child.worker, child.runtime, crashed=crashed, description=_describe(code))
        )


def _describe(code: int) -> str:
    """An exit status in words: ``stopped``, ``exited with 3``, ``was killed by SIGKILL``."""
    if code == 0:
        return "stopped"
    if code > 0:
        return f"exited with {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
