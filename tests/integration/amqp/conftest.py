"""RabbitMQ for tests: names of a test's own, and what it leaves is deleted."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator

import aio_pika
import pytest

from sfumato.adapters.amqp.topology import Topology
from tests.support.servers import PrivateRabbit, private

RUNTIME = "gpu"


@pytest.fixture
async def prefix(rabbitmq_url: str) -> AsyncIterator[str]:
    """A prefix whose exchanges and queues of ``RUNTIME`` are gone after the test."""
    names = Topology(f"t{secrets.token_hex(4)}", 3)
    yield names.prefix
    async with await aio_pika.connect(rabbitmq_url) as connection:
        channel = await connection.channel()
        for queue in names.queues(RUNTIME):
            await channel.queue_delete(queue)
        for exchange in (names.exchange, names.dead_exchange):
            await channel.exchange_delete(exchange)


@pytest.fixture(scope="module")
def private_broker() -> Iterator[PrivateRabbit]:
    """A broker that may be killed."""
    with private(PrivateRabbit) as server:
        yield server
