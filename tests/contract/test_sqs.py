"""SQS keeps the contract of the queue, as far as moto's server is SQS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from sfumato.adapters.sqs import SqsJobQueue
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

    async def pass_time(self, clock: ManualClock, seconds: float) -> None:
        await asyncio.sleep(seconds)
