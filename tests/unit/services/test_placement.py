"""How many workers are asked for, and what a crash changes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from sfumato.adapters.memory import MemoryJobStore
from sfumato.core.errors import NotFound
from sfumato.core.ports import JobCounts, WorkerExit
from sfumato.core.runtimes import Runtime
from sfumato.services.placement import (
    JOBS_PER_WORKER,
    MAX_BACKOFF,
    Scaling,
    ScalingSignal,
    Supervisor,
    desired_workers,
)
from sfumato.services.recovery import RetryPolicy
from sfumato.services.watching import JobWatcher


@pytest.mark.parametrize(
    ("queued", "running", "maximum", "desired"),
    [
        (0, 0, 4, 0),
        (1, 0, 4, 1),
        (0, 1, 4, 1),
        (JOBS_PER_WORKER, 0, 4, 1),
        (JOBS_PER_WORKER, 1, 4, 2),
        (10_000, 0, 4, 4),
        (10_000, 0, 0, 0),
    ],
)
def test_workers_follow_the_open_jobs_up_to_the_maximum(
    queued: int, running: int, maximum: int, desired: int
) -> None:
    counts = JobCounts(queued, running, oldest_queued_at=None)
    assert desired_workers(counts, Runtime("r", max_workers=maximum)) == desired


def test_the_backoff_of_failed_attempts_doubles_to_a_minute() -> None:
    waits = [RetryPolicy().backoff(failures) for failures in range(1, 9)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


class ManualClock:
    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


class ScriptedPool:
    """A pool whose workers end when the test says so."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.started: asyncio.Queue[str] = asyncio.Queue()
        self.exits: asyncio.Queue[WorkerExit] = asyncio.Queue()
        self.count = 0

    async def start(self, runtime: str) -> str:
        self.count += 1
        self.names.append(f"{runtime}-{self.count}")
        self.started.put_nowait(self.names[-1])
        return self.names[-1]

    def running(self, runtime: str) -> Sequence[str]:
        return list(self.names)

    async def ended(self) -> WorkerExit:
        return await self.exits.get()

    async def stop(self, *, grace: float) -> None:
        self.names.clear()

    def end(self, worker: str, *, crashed: bool) -> None:
        self.names.remove(worker)
        self.exits.put_nowait(WorkerExit(worker, "r", crashed, "was killed by SIGKILL"))


class OneQueuedJob:
    """The part of a job store that the supervisor reads."""

    async def counts(self, runtime: str) -> JobCounts:
        return JobCounts(queued=1, running=0, oldest_queued_at=0.0)


class Gone:
    """The part of recovery that the supervisor calls."""

    def __init__(self) -> None:
        self.workers: asyncio.Queue[str] = asyncio.Queue()

    async def worker_gone(self, worker: str, *, reason: str) -> None:
        self.workers.put_nowait(worker)


async def test_a_crash_is_told_to_recovery_and_the_next_waits_longer_each_time() -> None:
    clock, pool, gone = ManualClock(), ScriptedPool(), Gone()
    supervisor = Supervisor(
        runtimes=[Runtime("r")],
        pool=pool,
        store=OneQueuedJob(),  # type: ignore[arg-type]
        recovery=gone,  # type: ignore[arg-type]
        watcher=JobWatcher(OneQueuedJob()),  # type: ignore[arg-type]
        clock=clock,
    )
    running = asyncio.create_task(supervisor.run(interval=0.001))
    waits = []
    for _ in range(9):
        worker = await pool.started.get()
        pool.end(worker, crashed=True)
        assert await gone.workers.get() == worker
        state = supervisor.state("r")
        waits.append(max(0.0, state.not_before - clock.time))
        if waits[-1]:
            assert "SIGKILL" in (supervisor.why_waiting("r") or "")
        clock.time += waits[-1]
    running.cancel()
    await asyncio.wait([running])
    assert waits == [0, 1, 2, 4, 8, 16, MAX_BACKOFF, MAX_BACKOFF, MAX_BACKOFF]


async def test_the_scaling_signal_is_counted_once_however_many_ask() -> None:
    store = CountingStore(JobCounts(queued=40, running=2, oldest_queued_at=90.0))
    clock = Clock()
    scaling = Scaling(store=store, runtimes=[Runtime("r", max_workers=2)], clock=clock)
    signals = await asyncio.gather(*(scaling.of("r") for _ in range(100)))
    assert set(signals) == {ScalingSignal(40, 2, desired=2, oldest_seconds=10.0)}
    assert store.counted == 1
    clock.time += 0.6
    await scaling.of("r")
    assert store.counted == 2


async def test_workers_that_others_start_are_not_capped_by_this_machines_limit() -> None:
    store = CountingStore(JobCounts(queued=40, running=2, oldest_queued_at=None))
    scaling = Scaling(store=store, runtimes=[Runtime("r", max_workers=0)], clock=Clock())
    assert await scaling.of("r") == ScalingSignal(40, 2, desired=3, oldest_seconds=0.0)


async def test_an_unknown_runtime_has_no_signal() -> None:
    scaling = Scaling(store=CountingStore(JobCounts(0, 0, None)), runtimes=[], clock=Clock())
    with pytest.raises(NotFound, match="nowhere"):
        await scaling.of("nowhere")


@dataclass
class Clock:
    time: float = 100.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


class CountingStore(MemoryJobStore):
    """Counts how often it is asked."""

    def __init__(self, counts: JobCounts) -> None:
        super().__init__()
        self._answer = counts
        self.counted = 0

    async def counts(self, runtime: str) -> JobCounts:
        self.counted += 1
        return self._answer
