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

    Args:
        hear: given each line that a child writes to the descriptor that its command then ends with,
            as ``--tell=5``; None: there is no such descriptor.
    """

    def __init__(
        self,
        command: Callable[[str, str, float], Sequence[str]],
        *,
        environment: Mapping[str, str],
        hear: Callable[[bytes], None] | None = None,
    ) -> None:
        self._command = command
        self._environment = environment
        self._hear = hear
        self._children: dict[str, _Child] = {}
        self._waiting: set[asyncio.Task[None]] = set()
        self._ended: asyncio.Queue[WorkerExit] = asyncio.Queue()
        self._numbers = itertools.count(1)

    async def start(self, runtime: str) -> str:
        worker = f"{runtime}-{os.getpid()}-{next(self._numbers)}"
        command = self._command(runtime, worker, time.time())
        try:
            if self._hear is None:
                process = await self._spawn(command)
            else:
                process = await self._spawn_heard(command, self._hear)
        except OSError as error:
            raise Unavailable(
                f"No worker process can be started: {error.strerror}. Queued jobs are kept."
            ) from error
        child = _Child(worker, runtime, process)
        self._children[worker] = child
        self._keep(asyncio.create_task(self._wait(child), name=f"wait-{worker}"))
        return worker

    async def _spawn(
        self, command: Sequence[str], descriptors: Sequence[int] = ()
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            env=dict(self._environment),
            start_new_session=True,
            pass_fds=descriptors,
        )

    async def _spawn_heard(
        self, command: Sequence[str], hear: Callable[[bytes], None]
    ) -> asyncio.subprocess.Process:
        reading, writing = os.pipe()
        try:
            process = await self._spawn([*command, f"--tell={writing}"], [writing])
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self._keep(asyncio.create_task(_read_lines(reading, hear)))
        return process

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

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


async def _read_lines(descriptor: int, hear: Callable[[bytes], None]) -> None:
    """Hear every line until nobody has the other end any more."""
    lines = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), os.fdopen(descriptor, "rb", buffering=0)
    )
    with contextlib.closing(transport):
        async for line in lines:
            hear(line)


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
