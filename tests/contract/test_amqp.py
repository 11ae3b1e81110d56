"""RabbitMQ keeps the queue's contract. It keeps the time itself, so these tests wait for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import ClassVar

import aio_pika
import pytest

from sfumato.adapters.amqp import AmqpJobQueue
from sfumato.core.ports import JobQueue
from tests.contract.job_queue import JobQueueContract, ManualClock

URL = "amqp://guest:guest@127.0.0.1:5672/"
PREFIX = "sfumato-tests"


class TestAmqpJobQueue(JobQueueContract):
    VISIBILITY: ClassVar[float] = 1.0
    SETTLING: ClassVar[float] = 0.05

    @pytest.fixture
    async def queue(self, clock: ManualClock, runtime: str) -> AsyncIterator[JobQueue]:
        queue = await AmqpJobQueue.open(URL, prefix=PREFIX, max_deliveries=3)
        yield queue
        await queue.close()
        await delete_queues(URL, queue)

    @pytest.fixture
    async def elsewhere(self, queue: JobQueue) -> AsyncIterator[JobQueue]:
        other = await AmqpJobQueue.open(URL, prefix=PREFIX, max_deliveries=3)
        yield other
        await other.close()

    async def pass_time(self, clock: ManualClock, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def delete_queues(url: str, queue: AmqpJobQueue) -> None:
    connection = await aio_pika.connect(url)
    async with connection, connection.channel() as channel:
        for runtime in queue._declared - {""}:
            for name in queue._topology.queues(runtime):
                await channel.queue_delete(name)
