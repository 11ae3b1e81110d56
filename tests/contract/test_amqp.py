"""RabbitMQ keeps the queue's contract. It keeps the time itself, so these tests wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import ClassVar

import aio_pika
import pytest

from sfumato.adapters.amqp import AmqpJobQueue
from sfumato.core.ports import JobQueue
from tests.contract.job_queue import JobQueueContract, ManualClock

PREFIX = "sfumato-tests"


class TestAmqpJobQueue(JobQueueContract):
    VISIBILITY: ClassVar[float] = 1.0
    SETTLING: ClassVar[float] = 0.05

    @pytest.fixture
    async def queue(self, rabbitmq_url: str) -> AsyncIterator[JobQueue]:
        queue = await AmqpJobQueue.open(rabbitmq_url, prefix=PREFIX, max_deliveries=3)
        yield queue
        await queue.close()
        await delete_queues(rabbitmq_url, queue)

    @pytest.fixture
    async def elsewhere(self, rabbitmq_url: str) -> AsyncIterator[JobQueue]:
        other = await AmqpJobQueue.open(rabbitmq_url, prefix=PREFIX, max_deliveries=3)
        yield other
        await other.close()
        await delete_queues(rabbitmq_url, other)

    async def pass_time(self, clock: ManualClock, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def delete_queues(url: str, queue: AmqpJobQueue) -> None:
    """A broker outlives its tests."""
    connection = await aio_pika.connect(url)
    async with connection, connection.channel() as channel:
        for runtime in queue._declared - {""}:
            for name in queue._topology.queues(runtime):
                await channel.queue_delete(name)
