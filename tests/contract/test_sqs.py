"""SQS keeps the contract of the queue, as far as moto's server is SQS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from sfumato.adapters.sqs import SqsJobQueue
from sfumato.core.ports import JobQueue, Ring
from tests.contract.job_queue import JobQueueContract, ManualClock


class TestSqsJobQueue(JobQueueContract):
    VISIBILITY = 2.0
    SETTLING = 0.05

    @pytest.fixture
    async def queue(
        self, sqs_url: str, aws_endpoint: str, clock: ManualClock, runtime: str
    ) -> AsyncIterator[SqsJobQueue]:
        queue = await SqsJobQueue.open(
            sqs_url, clock, runtimes=[runtime], endpoint=aws_endpoint, max_deliveries=3
        )
        yield queue
        await queue.close()

    @pytest.fixture
    async def elsewhere(
        self, queue: SqsJobQueue, sqs_url: str, aws_endpoint: str, clock: ManualClock, runtime: str
    ) -> AsyncIterator[SqsJobQueue]:
        other = await SqsJobQueue.open(
            sqs_url, clock, runtimes=[runtime], endpoint=aws_endpoint, max_deliveries=3
        )
        yield other
        await other.close()

    async def test_many_receivers_never_share_a_ring(
        self, queue: JobQueue, elsewhere: JobQueue, runtime: str
    ) -> None:
        """SQS promises less: at least once. (moto's receivers do meet, once in some hundred
        messages.) So each ring comes, however many receivers there are."""
        names = {f"j{n}" for n in range(20)}
        await asyncio.gather(*(queue.ring(Ring(name, runtime)) for name in names))
        receivers = [q for q in (queue, elsewhere) for _ in range(10)]
        seen: set[str] = set()
        while seen != names:
            missing = receivers[: len(names - seen)]
            taken = await asyncio.gather(*(self.must_take(q, runtime) for q in missing))
            seen.update(delivery.ring.job_id for delivery in taken)

    async def pass_time(self, clock: ManualClock, seconds: float) -> None:
        await asyncio.sleep(seconds)
