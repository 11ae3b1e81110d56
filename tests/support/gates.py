"""Moments in a worker that a test waits for, or holds."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from sfumato.core.ports import Slot
from sfumato.worker.engine_thread import EngineThread
from sfumato.worker.loop import Worker
from sfumato.worker.run import JobRun


class Gate:
    """Holds the engine before a step until the test lets it go on."""

    def __init__(self, *, hold_from_step: int = 1) -> None:
        self.hold_from_step = hold_from_step
        self.reached = threading.Event()
        self.go_on = threading.Event()
        self.batches: list[int] = []

    def __call__(self, slots: Sequence[Slot]) -> None:
        self.batches.append(len(slots))
        if len(self.batches) >= self.hold_from_step:
            self.reached.set()
            assert self.go_on.wait(30)

    async def wait_reached(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, 30)


async def releasing(worker: Worker) -> None:
    """Returns once the draining worker has asked its engine for the state of what runs."""
    asked, release_all = asyncio.Event(), worker._release_all

    def spy(engine: EngineThread) -> None:
        release_all(engine)
        asked.set()

    worker._release_all = spy  # type: ignore[method-assign]
    await asked.wait()


def dropping(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set once a worker has asked its engine to let go of a job."""
    asked, drop = asyncio.Event(), EngineThread.drop

    def spy(engine: EngineThread, run: JobRun) -> None:
        drop(engine, run)
        asked.set()

    monkeypatch.setattr(EngineThread, "drop", spy)
    return asked


async def joined(worker: Worker, count: int) -> None:
    """Returns once so many jobs were handed to the engine's thread."""
    while len(worker._runs) < count:
        await asyncio.sleep(0)
    await asyncio.sleep(0)  # the last one's task runs, and hands the job over
