"""What every ``JobQueue`` keeps. Inherit :class:`JobQueueContract`; give it a ``queue``.

Its clock is the fixture ``clock``: time stands still until a test moves it. ``elsewhere`` is the
same queue as another process would open it, where an adapter has such a thing.
"""

from __future__ import annotations

import asyncio
import time

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


async def take(queue: JobQueue, *runtimes: str) -> Delivery | None:
    """What can be received this very moment."""
    return await queue.receive(runtimes or ("r",), visibility=10, timeout=0)


async def must_take(queue: JobQueue, *runtimes: str) -> Delivery:
    delivery = await take(queue, *runtimes)
    assert delivery is not None
    return delivery


class JobQueueContract:
    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    async def queue(self, clock: ManualClock) -> JobQueue:
        raise NotImplementedError

    @pytest.fixture
    async def elsewhere(self, queue: JobQueue) -> JobQueue:
        return queue

    async def test_a_ring_comes_out_as_it_went_in(self, queue: JobQueue) -> None:
        ring = Ring("j", "r", attempt=2, priority=-7, traceparent="00-ab-cd-01")
        await queue.ring(ring)
        delivery = await must_take(queue)
        assert (delivery.ring, delivery.deliveries) == (ring, 1)

    async def test_an_empty_queue_answers_at_once_with_timeout_zero(self, queue: JobQueue) -> None:
        assert await take(queue) is None

    async def test_higher_priority_first_then_older(self, queue: JobQueue) -> None:
        for name, priority in (("a", 0), ("b", 5), ("c", -1), ("d", 0), ("e", 5)):
            await queue.ring(Ring(name, "r", priority=priority))
        order = [(await must_take(queue)).ring.job_id for _ in range(5)]
        assert order == ["b", "e", "a", "d", "c"]

    async def test_a_receiver_gets_its_runtimes_rings_alone(self, queue: JobQueue) -> None:
        await queue.ring(Ring("a", "one"))
        await queue.ring(Ring("b", "two"))
        assert await take(queue, "three") is None
        assert (await must_take(queue, "two")).ring.job_id == "b"
        assert (await must_take(queue, "three", "one")).ring.job_id == "a"

    async def test_many_receivers_never_share_a_ring(
        self, queue: JobQueue, elsewhere: JobQueue
    ) -> None:
        names = {f"j{n}" for n in range(20)}
        await asyncio.gather(*(queue.ring(Ring(name, "r")) for name in names))
        taken = await asyncio.gather(*(take(q) for q in (queue, elsewhere) for _ in range(12)))
        received = [delivery.ring.job_id for delivery in taken if delivery is not None]
        assert len(received) == len(names)
        assert set(received) == names

    async def test_what_is_not_acknowledged_comes_again(
        self, queue: JobQueue, clock: ManualClock
    ) -> None:
        await queue.ring(Ring("j", "r"))
        first = await must_take(queue)
        clock.time += 9.9
        assert await take(queue) is None
        clock.time += 0.2
        second = await must_take(queue)
        assert second.deliveries == 2
        await first.ack()  # too late: it is the second receiver's now
        assert not await first.extend(100)
        clock.time += 11
        assert await take(queue) is not None

    async def test_an_acknowledged_ring_is_gone(self, queue: JobQueue, clock: ManualClock) -> None:
        await queue.ring(Ring("j", "r"))
        delivery = await must_take(queue)
        await delivery.ack()
        await delivery.ack()
        clock.time += 100
        assert await take(queue) is None

    async def test_extended_it_stays_hidden(self, queue: JobQueue, clock: ManualClock) -> None:
        await queue.ring(Ring("j", "r"))
        delivery = await must_take(queue)
        clock.time += 9
        assert await delivery.extend(10)
        clock.time += 9
        assert await take(queue) is None
        clock.time += 2
        assert await take(queue) is not None

    async def test_released_it_comes_after_the_delay(
        self, queue: JobQueue, clock: ManualClock
    ) -> None:
        await queue.ring(Ring("j", "r"))
        await (await must_take(queue)).release()
        await (await must_take(queue)).release(delay=5)
        assert await take(queue) is None
        clock.time += 6
        assert await take(queue) is not None

    async def test_a_released_receipt_is_spent(self, queue: JobQueue) -> None:
        await queue.ring(Ring("j", "r"))
        delivery = await must_take(queue)
        await delivery.release()
        await delivery.ack()
        assert not await delivery.extend(100)
        assert await take(queue) is not None

    async def test_rung_with_a_delay_it_waits(self, queue: JobQueue, clock: ManualClock) -> None:
        await queue.ring(Ring("j", "r"), delay=5)
        assert await take(queue) is None
        clock.time += 6
        assert await take(queue) is not None

    async def test_rung_again_a_job_has_one_ring_and_keeps_its_place(self, queue: JobQueue) -> None:
        for name in ("a", "b", "a"):
            await queue.ring(Ring(name, "r", attempt=3))
        order = [(await must_take(queue)).ring.job_id for _ in range(2)]
        assert order == ["a", "b"]
        assert await take(queue) is None

    async def test_rung_again_while_held_it_is_ready_and_the_holders_ack_is_stale(
        self, queue: JobQueue
    ) -> None:
        await queue.ring(Ring("j", "r", attempt=0))
        held = await must_take(queue)
        await queue.ring(Ring("j", "r", attempt=1))
        await held.ack()
        assert (await must_take(queue)).ring.attempt == 1

    async def test_depth_counts_ready_and_hidden(self, queue: JobQueue, clock: ManualClock) -> None:
        assert await queue.depth("r") == QueueDepth(ready=0, hidden=0)
        for name in ("a", "b", "c"):
            await queue.ring(Ring(name, "r"))
        await queue.ring(Ring("d", "r"), delay=10)
        await queue.ring(Ring("e", "other"))
        await must_take(queue)
        assert await queue.depth("r") == QueueDepth(ready=2, hidden=2)
        clock.time += 11
        assert await queue.depth("r") == QueueDepth(ready=4, hidden=0)

    async def test_a_receiver_without_luck_gives_up_at_its_timeout(self, queue: JobQueue) -> None:
        await queue.ring(Ring("j", "other"))
        assert await queue.receive(["r"], visibility=10, timeout=0.05) is None

    async def test_a_waiting_receiver_wakes_for_a_ring_from_elsewhere(
        self, queue: JobQueue, elsewhere: JobQueue
    ) -> None:
        waiting = asyncio.create_task(queue.receive(["r"], visibility=10, timeout=PATIENCE))
        await asyncio.sleep(0)
        await elsewhere.ring(Ring("other", "elsewhere"))
        await elsewhere.ring(Ring("j", "r"))
        delivery = await waiting
        assert delivery is not None
        assert delivery.ring.job_id == "j"

    async def test_a_waiting_receiver_wakes_for_a_release(
        self, queue: JobQueue, elsewhere: JobQueue
    ) -> None:
        await queue.ring(Ring("j", "r"))
        delivery = await must_take(elsewhere)
        waiting = asyncio.create_task(queue.receive(["r"], visibility=10, timeout=PATIENCE))
        await asyncio.sleep(0)
        await delivery.release()
        assert await waiting is not None

    @pytest.mark.parametrize("moment", range(0, 12, 2))
    async def test_a_receiver_that_is_cancelled_takes_nothing_with_it(
        self, queue: JobQueue, moment: int
    ) -> None:
        """A worker told to stop must not hide a ring for the length of a visibility; so it is
        cancelled before, while and after it takes one."""
        await queue.ring(Ring("j", "r"))
        receiving = asyncio.create_task(queue.receive(["r"], visibility=10, timeout=PATIENCE))
        for _ in range(moment):
            await asyncio.sleep(0.0005)
        if not receiving.cancel():  # it was faster
            delivery = receiving.result()
            assert delivery is not None
            await delivery.release()
        await asyncio.wait([receiving])
        assert await queue.receive(["r"], visibility=10, timeout=PATIENCE) is not None
