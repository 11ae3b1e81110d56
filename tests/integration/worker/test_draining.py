"""A draining worker: what it tells while it does, and how the time it has can be shortened."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from sfumato.bootstrap.clock import SystemClock
from sfumato.core.job import AttemptOutcome, JobStatus
from sfumato.core.ports import Slot
from sfumato.engine.fake import FakeEngine
from sfumato.worker.health import Health
from tests.support.parts import open_house


class Slow:
    """Steps that take a moment, and never so long that the engine can't be asked for its state."""

    def __init__(self, seconds: float) -> None:
        self.begun = threading.Event()
        self._seconds = seconds
        self._never = threading.Event()

    def __call__(self, slots: Sequence[Slot]) -> None:
        self.begun.set()
        self._never.wait(self._seconds)

    async def wait_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, 30)


async def test_a_drain_can_be_cut_short_and_not_drawn_out() -> None:
    slow, health = Slow(0.2), Health(SystemClock().monotonic)
    async with open_house() as house:
        worker = house.worker(FakeEngine(before_step=slow), grace=300.0, health=health)
        running = asyncio.create_task(worker.run())
        job = await house.submit(num_inference_steps=150)
        await slow.wait_begun()
        assert health.readiness().ok
        worker.drain()
        assert not health.readiness().ok
        worker.drain(within=0.0)
        worker.drain(within=600.0)
        await asyncio.wait_for(running, 60)
        assert (await house.store.get(job.id)).status is JobStatus.QUEUED
        (attempt,) = await house.store.attempts(job.id)
        assert attempt.outcome is AttemptOutcome.RELEASED


async def test_the_first_end_is_kept_when_a_longer_grace_follows() -> None:
    slow = Slow(0.2)
    async with open_house() as house:
        worker = house.worker(FakeEngine(before_step=slow), grace=300.0)
        running = asyncio.create_task(worker.run())
        await house.submit(num_inference_steps=150)
        await slow.wait_begun()
        worker.drain(within=0.2)  # a spot machine's notice
        worker.drain()  # and the SIGTERM that follows
        await asyncio.wait_for(running, 60)


async def test_busy_is_told_once_for_all_jobs_that_overlap() -> None:
    told: list[bool] = []
    slow = Slow(0.01)
    async with (
        open_house() as house,
        house.working(FakeEngine(before_step=slow), on_busy=told.append),
    ):
        first = await house.submit(num_inference_steps=40)
        await slow.wait_begun()
        assert told == [True]
        second = await house.submit(num_inference_steps=80)
        for job in (first, second):
            assert (await house.finished(job)).status is JobStatus.SUCCEEDED
    assert told == [True, False]
