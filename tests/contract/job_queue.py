"""What every ``JobQueue`` keeps. Inherit :class:`JobQueueContract`; give it a ``queue``.

Its clock is the fixture ``clock``: time stands still until a test moves it.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from sfumato.core.ports import Delivery, JobQueue, Ring

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

    async def test_one_of_many_receivers_gets_it(self, queue: JobQueue) -> None:
        await queue.ring(Ring("j", "r"))
        taken = await asyncio.gather(*(take(queue) for _ in range(10)))
        assert sum(delivery is not None for delivery in taken) == 1

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

    async def test_depth_counts_ready_and_hidden(self, queue: JobQueue) -> None:
        for name in ("a", "b", "c"):
            await queue.ring(Ring(name, "r"))
        await queue.ring(Ring("d", "other"))
        await must_take(queue)
        depth = await queue.depth("r")
        assert (depth.ready, depth.hidden) == (2, 1)

    async def test_a_waiting_receiver_wakes_for_a_ring(self, queue: JobQueue) -> None:
        waiting = asyncio.create_task(queue.receive(["r"], visibility=10, timeout=PATIENCE))
        await asyncio.sleep(0)
        await queue.ring(Ring("other", "elsewhere"))
        await queue.ring(Ring("j", "r"))
        delivery = await waiting
        assert delivery is not None
        assert delivery.ring.job_id == "j"

    async def test_a_receiver_that_gives_up_takes_nothing_with_it(self, queue: JobQueue) -> None:
        waiting = asyncio.create_task(queue.receive(["r"], visibility=10, timeout=PATIENCE))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        await queue.ring(Ring("j", "r"))
        assert await take(queue) is not None
