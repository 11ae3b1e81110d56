"""What jobs are charged is what the device did, to the nanosecond, whatever becomes of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.adapters.memory import MemoryCostBook, MemoryJobStore
from sfumato.bootstrap.parts import SystemClock
from sfumato.core.charges import Charge, Price
from sfumato.core.errors import OutOfMemory
from sfumato.core.job import JobStatus
from sfumato.core.ports import DecodedImage, ImageTask, Slot
from sfumato.engine.fake import FakeEngine, FakeSlot
from sfumato.worker.loop import Worker
from tests.support.gates import Gate, dropping, joined
from tests.support.parts import House, open_house


class DeviceClock(SystemClock):
    """Stands still but for what the device does."""

    def __init__(self) -> None:
        self.device = 0

    def monotonic(self) -> float:
        return 1000.0 + self.device / 1e9

    def busy(self, milliseconds: int) -> None:
        self.device += milliseconds * 1_000_000


class SlowEngine(FakeEngine):
    """Whatever it does takes the milliseconds that it is given, in turn."""

    def __init__(self, clock: DeviceClock, times: Sequence[int], *, rows: int = 8) -> None:
        super().__init__(before_step=self._before, rows=rows)
        self._clock, self._times, self._turn = clock, times, 0
        self.largest = rows

    def _busy(self) -> None:
        self._clock.busy(self._times[self._turn % len(self._times)])
        self._turn += 1

    def _before(self, slots: Sequence[Slot]) -> None:
        self._busy()
        if len(slots) > self.largest:
            raise OutOfMemory("So many do not fit.")

    def prepare(self, tasks: Sequence[ImageTask]) -> None:
        self._busy()

    def admit(self, task: ImageTask) -> FakeSlot:
        self._busy()
        return super().admit(task)

    def decode(self, slots: Sequence[Slot]) -> Iterator[DecodedImage]:
        """Three at once, as a GPU does."""
        done = list(super().decode(slots))
        for first in range(0, len(done), 3):
            group = done[first : first + 3]
            self._busy()
            for index, image in enumerate(group):
                yield replace(image, together=len(group) - index)

    def export(self, slot: Slot) -> bytes:
        self._busy()
        return super().export(slot)


@settings(max_examples=25, deadline=None)
@given(
    jobs=st.lists(
        st.tuples(st.integers(1, 3), st.integers(1, 6), st.sampled_from([1.0, 7.0])),
        min_size=1,
        max_size=6,
    ),
    times=st.lists(st.integers(0, 999), min_size=1, max_size=7),
    largest=st.sampled_from([1, 2, 8]),
)
def test_the_sum_over_jobs_is_the_device_s_busy_time(
    jobs: list[tuple[int, int, float]], times: list[int], largest: int
) -> None:
    async def play() -> None:
        clock = DeviceClock()
        engine = SlowEngine(clock, times)
        engine.largest = largest
        async with open_house(clock=clock) as house, house.working(engine):
            submitted = [
                await house.submit(num_images=n, num_inference_steps=steps, guidance_scale=scale)
                for n, steps, scale in jobs
            ]
            done = [await house.finished(job) for job in submitted]
        assert {job.status for job in done} == {JobStatus.SUCCEEDED}
        assert sum(round(job.charge.gpu_seconds * 1e9) for job in done) == clock.device

    asyncio.run(play())


async def test_who_shares_a_step_pays_for_his_rows() -> None:
    clock = DeviceClock()
    gate = Gate()

    class Held(SlowEngine):
        def _before(self, slots: Sequence[Slot]) -> None:
            gate(slots)
            super()._before(slots)

        def admit(self, task: ImageTask) -> FakeSlot:
            return FakeEngine.admit(self, task)

        def decode(self, slots: Sequence[Slot]) -> Iterator[DecodedImage]:
            return FakeEngine.decode(self, slots)

        def prepare(self, tasks: Sequence[ImageTask]) -> None:
            """At no cost."""

    async with open_house(clock=clock) as house, house.working(Held(clock, [300])) as worker:
        alone = await house.submit(num_inference_steps=1, guidance_scale=1.0)
        await gate.wait_reached()
        jobs = [
            await house.submit(num_inference_steps=4, guidance_scale=scale) for scale in (7.0, 1.0)
        ]
        await joined(worker, 3)
        gate.go_on.set()
        guided, plain = [await house.finished(job) for job in jobs]
        assert (await house.finished(alone)).charge == Charge(0.3)
    assert (guided.charge, plain.charge) == (Charge(0.8), Charge(0.4))


async def test_a_canceled_job_pays_for_the_step_it_was_in(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, gate, dropped = DeviceClock(), Gate(), dropping(monkeypatch)

    class Held(SlowEngine):
        def _before(self, slots: Sequence[Slot]) -> None:
            gate(slots)
            super()._before(slots)

    async with priced(clock) as house, house.working(Held(clock, [500])):
        job = await house.submit()
        await gate.wait_reached()
        await house.tracking.cancel(job.id)
        await dropped.wait()
        gate.go_on.set()
        done = await house.finished(job)
        assert done.status is JobStatus.CANCELED
        assert done.charge.gpu_seconds == clock.device / 1e9 > 0
        (event,) = [e for e in await house.store.events(job.id) if e.kind.terminal]
        assert event.data == done.charge.told()


async def test_every_attempt_is_charged_and_the_price_is_that_of_its_end() -> None:
    clock, gate = DeviceClock(), Gate(hold_from_step=2)

    class Held(SlowEngine):
        def _before(self, slots: Sequence[Slot]) -> None:
            gate(slots)
            super()._before(slots)

    async with priced(clock, per_hour=3600.0) as house:
        job = await house.submit(num_inference_steps=3)
        first = worker(house, Held(clock, [250]))
        running = asyncio.create_task(first.run())
        await gate.wait_reached()
        first.drain()
        gate.go_on.set()
        await running
        spent = clock.device / 1e9
        assert (await house.store.get(job.id)).charge == Charge(spent, spent, "EUR")
        house.prices = {"default": Price(7200.0, "EUR")}
        async with house.working(SlowEngine(clock, [100])):
            done = await house.finished(job)
        both = clock.device / 1e9
        assert done.charge.gpu_seconds == both
        assert done.charge.cost is not None
        assert abs(done.charge.cost - (spent + 2 * (both - spent))) < 1e-9
        assert isinstance(house.store, MemoryJobStore)
        (total,) = await MemoryCostBook(house.store).totals(by=[], since=0, until=1e12)
        assert (total.jobs, total.images, total.gpu_seconds) == (1, 1, both)


def worker(house: House, engine: FakeEngine) -> Worker:
    return house.worker(engine, grace=0.0)


def priced(
    clock: DeviceClock, *, per_hour: float = 3.0
) -> contextlib.AbstractAsyncContextManager[House]:
    return open_house(clock=clock, prices={"default": Price(per_hour, "EUR")})
