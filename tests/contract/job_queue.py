"""What every ``JobQueue`` keeps. Inherit :class:`JobQueueContract`; give it a ``queue``.

Queues of ours take the fixture ``clock``, whose time stands still until a test moves it. A broker
has a clock of its own: its class sets ``VISIBILITY`` to the shortest that the broker keeps well and
overrides ``pass_time`` to wait. ``elsewhere`` is the same queue as another process would open it.
``runtime`` is a name of the test's own, as a broker outlives its tests. Where ``traits`` differ,
so does what is expected, and nowhere else.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import ClassVar

import pytest

from sfumato.core.ports import Delivery, JobQueue, QueueDepth, Ring

#: Longer than any test takes: a receive that should succeed never runs it out.
PATIENCE = 30.0


class ManualClock:
    """A wall clock that tests move; durations stay real."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return time.monotonic()


class JobQueueContract:
    #: Seconds for which a received ring stays hidden in these tests.
    VISIBILITY: ClassVar[float] = 10.0
    #: Seconds within which a change by another process is seen at the latest; 0: at once.
    SETTLING: ClassVar[float] = 0.0

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    def runtime(self) -> str:
        return f"r{secrets.token_hex(4)}"

    @pytest.fixture
    async def queue(self, clock: ManualClock, runtime: str) -> JobQueue:
        """Rings that come three times without an acknowledgement are set aside by it."""
        raise NotImplementedError

    @pytest.fixture
    async def elsewhere(self, queue: JobQueue) -> JobQueue:
        return queue

    async def pass_time(self, clock: ManualClock, seconds: float) -> None:
        clock.time += seconds

    # -- helpers ---------------------------------------------------------------------------------

    async def take(self, queue: JobQueue, *runtimes: str) -> Delivery | None:
        """What can be received this very moment."""
        return await queue.receive(runtimes, visibility=self.VISIBILITY, timeout=self.SETTLING)

    async def must_take(self, queue: JobQueue, *runtimes: str) -> Delivery:
        delivery = await queue.receive(runtimes, visibility=self.VISIBILITY, timeout=PATIENCE)
        assert delivery is not None
        return delivery

    async def depth_becomes(self, queue: JobQueue, runtime: str, wanted: QueueDepth) -> None:
        """A broker's counts may lag behind its deliveries."""
        for _ in range(200):
            found = await queue.depth(runtime)
            if found == wanted or self.SETTLING == 0:
                break
            await asyncio.sleep(0.05)
        assert found == wanted

    # -- the contract ----------------------------------------------------------------------------

    async def test_a_ring_comes_out_as_it_went_in(self, queue: JobQueue, runtime: str) -> None:
        ring = Ring("j", runtime, attempt=2, priority=-7, traceparent="00-ab-cd-01")
        await queue.ring(ring)
        delivery = await self.must_take(queue, runtime)
        assert (delivery.ring, delivery.deliveries) == (ring, 1)

    async def test_an_empty_queue_answers_at_once_with_timeout_zero(
        self, queue: JobQueue, runtime: str
    ) -> None:
        assert await queue.receive([runtime], visibility=self.VISIBILITY, timeout=0) is None

    async def test_higher_priority_first_then_older(self, queue: JobQueue, runtime: str) -> None:
        for name, priority in (("a", 0), ("b", 5), ("c", -1), ("d", 0), ("e", 5)):
            await queue.ring(Ring(name, runtime, priority=priority))
        order = [(await self.must_take(queue, runtime)).ring.job_id for _ in range(5)]
        assert order == (list("beadc") if queue.traits.priorities else list("abcde"))

    async def test_a_receiver_gets_its_runtimes_rings_alone(
        self, queue: JobQueue, runtime: str
    ) -> None:
        one, two, three = (f"{runtime}-{number}" for number in (1, 2, 3))
        await queue.ring(Ring("a", one))
        await queue.ring(Ring("b", two))
        assert await self.take(queue, three) is None
        assert (await self.must_take(queue, two)).ring.job_id == "b"
        assert (await self.must_take(queue, three, one)).ring.job_id == "a"

    async def test_many_receivers_never_share_a_ring(
        self, queue: JobQueue, elsewhere: JobQueue, runtime: str
    ) -> None:
        names = {f"j{n}" for n in range(20)}
        await asyncio.gather(*(queue.ring(Ring(name, runtime)) for name in names))
        receivers = (q for q in (queue, elsewhere) for _ in range(10))
        taken = await asyncio.gather(*(self.must_take(q, runtime) for q in receivers))
        received = [delivery.ring.job_id for delivery in taken]
        assert len(received) == len(names)
        assert set(received) == names

    async def test_what_is_not_acknowledged_comes_again(
        self, queue: JobQueue, clock: ManualClock, runtime: str
    ) -> None:
        await queue.ring(Ring("j", runtime))
        first = await self.must_take(queue, runtime)
        assert await self.take(queue, runtime) is None
        await self.pass_time(clock, 1.02 * self.VISIBILITY)
        second = await self.must_take(queue, runtime)
        assert second.deliveries == 2
        await first.ack()  # too late: it is the second receiver's now
        assert not await first.extend(10 * self.VISIBILITY)
        await self.pass_time(clock, 1.1 * self.VISIBILITY)
        assert (await self.must_take(queue, runtime)).ring.job_id == "j"

    async def test_a_ring_is_there_at_once_for_a_clock_that_is_behind(
        self, queue: JobQueue, clock: ManualClock, runtime: str
    ) -> None:
        await queue.ring(Ring("j", runtime))
        clock.time -= 60
        delivery = await self.must_take(queue, runtime)
        clock.time += 3600
        await delivery.release()
        clock.time -= 3600
        assert (await self.must_take(queue, runtime)).ring.job_id == "j"

    async def test_an_acknowledged_ring_is_gone(
        self, queue: JobQueue, clock: ManualClock, runtime: str
    ) -> None:
        await queue.ring(Ring("j", runtime))
        delivery = await self.must_take(queue, runtime)
        await delivery.ack()
        await delivery.ack()
        await self.pass_time(clock, 1.5 * self.VISIBILITY)
        assert await self.take(queue, runtime) is None

    async def test_extended_it_stays_hidden(
        self, queue: JobQueue, clock: ManualClock, runtime: str
    ) -> None:
        await queue.ring(Ring("j", runtime))
        delivery = await self.must_take(queue, runtime)
        await self.pass_time(clock, 0.6 * self.VISIBILITY)
        assert await delivery.extend(self.VISIBILITY)
        await self.pass_time(clock, 0.6 * self.VISIBILITY)
        assert await self.take(queue, runtime) is None
        await self.pass_time(clock, 0.5 * self.VISIBILITY)
        assert (await self.must_take(queue, runtime)).ring.job_id == "j"

    async def test_released_it_comes_after_the_delay(
        self, queue: JobQueue, clock: ManualClock, runtime: str
    ) -> None:
        await queue.ring(Ring("j", runtime))
        await (await self.must_take(queue, runtime)).release()
        await (await self.must_take(queue, runtime)).release(delay=self.VISIBILITY)
        assert await self.take(queue, runtime) is None
        await self.pass_time(clock, 1.1 * self.VISIBILITY)
        assert (await self.must_take(queue, runtime)).ring.job_id == "j"

    async def test_a_released_receipt_is_spent(self, queue: JobQueue, runtime: str) -> None:
        await queue.ring(Ring("j", runtime))
        delivery = await self.must_take(queue, runtime)
        await delivery.release()
        await delivery.ack()
        assert not await delivery.extend(10 * self.VISIBILITY)
        assert (await self.must_take(queue, runtime)).ring.job_id == "j"

    async def test_rung_with_a_delay_it_waits(
        self, queue: JobQueue, clock: ManualClock, runtime: str
    ) -> None:
        await queue.ring(Ring("j", runtime), delay=self.VISIBILITY)
        assert await self.take(queue, runtime) is None
        await self.pass_time(clock, 1.1 * self.VISIBILITY)
        assert (await self.must_take(queue, runtime)).ring.job_id == "j"

    async def test_rung_again_a_job_keeps_its_place(self, queue: JobQueue, runtime: str) -> None:
        for name in ("a", "b", "a"):
            await queue.ring(Ring(name, runtime, attempt=3))
        order = [(await self.must_take(queue, runtime)).ring.job_id for _ in range(2)]
        assert order == ["a", "b"]
        if queue.traits.single:
            assert await self.take(queue, runtime) is None
        else:
            assert (await self.must_take(queue, runtime)).ring.job_id == "a"

    async def test_rung_again_while_held_it_is_ready(self, queue: JobQueue, runtime: str) -> None:
        await queue.ring(Ring("j", runtime, attempt=0))
        held = await self.must_take(queue, runtime)
        await queue.ring(Ring("j", runtime, attempt=1))
        await held.ack()  # of the former ring alone
        assert (await self.must_take(queue, runtime)).ring.attempt == 1

    async def test_depth_counts_ready_and_hidden(
        self, queue: JobQueue, clock: ManualClock, runtime: str
    ) -> None:
        await self.depth_becomes(queue, runtime, QueueDepth(ready=0, hidden=0))
        for name in ("a", "b", "c"):
            await queue.ring(Ring(name, runtime))
        await queue.ring(Ring("d", runtime), delay=2 * self.VISIBILITY)
        await queue.ring(Ring("e", f"{runtime}-other"))
        delivery = await self.must_take(queue, runtime)
        await self.depth_becomes(queue, runtime, QueueDepth(ready=2, hidden=2))
        await delivery.ack()
        await self.pass_time(clock, 2.2 * self.VISIBILITY)
        await self.depth_becomes(queue, runtime, QueueDepth(ready=3, hidden=0))

    async def test_a_ring_that_nobody_can_handle_is_set_aside_and_can_be_redriven(
        self, queue: JobQueue, clock: ManualClock, runtime: str
    ) -> None:
        await queue.ring(Ring("poison", runtime))
        for _ in range(3):
            assert (await self.must_take(queue, runtime)).ring.job_id == "poison"
            await self.pass_time(clock, 1.1 * self.VISIBILITY)
        assert await self.take(queue, runtime) is None
        await self.depth_becomes(queue, runtime, QueueDepth(ready=0, hidden=0, dead=1))
        assert await queue.redrive(runtime) == 1
        assert (await self.must_take(queue, runtime)).ring.job_id == "poison"
        assert await queue.redrive(runtime) == 0

    async def test_a_receiver_without_luck_gives_up_at_its_timeout(
        self, queue: JobQueue, runtime: str
    ) -> None:
        await queue.ring(Ring("j", f"{runtime}-other"))
        assert await queue.receive([runtime], visibility=self.VISIBILITY, timeout=0.05) is None

    async def test_a_waiting_receiver_wakes_for_a_ring_from_elsewhere(
        self, queue: JobQueue, elsewhere: JobQueue, runtime: str
    ) -> None:
        waiting = asyncio.create_task(self.must_take(queue, runtime))
        await asyncio.sleep(0)
        await elsewhere.ring(Ring("other", f"{runtime}-elsewhere"))
        await elsewhere.ring(Ring("j", runtime))
        assert (await waiting).ring.job_id == "j"

    async def test_a_waiting_receiver_wakes_for_a_release(
        self, queue: JobQueue, elsewhere: JobQueue, runtime: str
    ) -> None:
        await queue.ring(Ring("j", runtime))
        delivery = await self.must_take(elsewhere, runtime)
        waiting = asyncio.create_task(self.must_take(queue, runtime))
        await asyncio.sleep(0)
        await delivery.release()
        assert (await waiting).ring.job_id == "j"

    @pytest.mark.parametrize("moment", range(0, 12, 2))
    async def test_a_receiver_that_is_cancelled_takes_nothing_with_it(
        self, queue: JobQueue, runtime: str, moment: int
    ) -> None:
        """A worker told to stop must not hide a ring for the length of a visibility; so it is
        cancelled before, while and after it takes one."""
        await queue.ring(Ring("j", runtime))
        receiving = asyncio.create_task(self.must_take(queue, runtime))
        for _ in range(moment):
            await asyncio.sleep(0.0005)
        if not receiving.cancel():  # it was faster
            await receiving.result().release()
        await asyncio.wait([receiving])
        assert (await self.must_take(queue, runtime)).ring.job_id == "j"
