"""What stands in RabbitMQ for a runtime: its queue, its dead letters, its delays.

======================================= =========================================================
``<prefix>``                            topic exchange; a ring's routing key is its runtime
``<prefix>.<runtime>``                  quorum queue of the rings
``<prefix>.dead``                       direct exchange for what was set aside
``<prefix>.<runtime>.dead``             quorum queue of what was set aside
``<prefix>.<runtime>.delay.<seconds>``  rings that wait; each returns to the exchange when its
                                        time is over
======================================= =========================================================

A queue serves its messages in order, so one that waits long would block those behind it. Hence one
queue a length of delay; a delay is rounded up to the next. They are quorum queues too, though each
costs the broker some memory: a classic queue lets go of what expires while its target has no leader.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelClosed, ChannelPreconditionFailed

from sfumato.adapters.amqp.link import ANSWER_SECONDS
from sfumato.core.errors import StartupRefused

#: Lengths of delay, in seconds.
DELAYS = (1, 2, 4, 8, 16, 32, 64, 256, 1024, 4096)


def prefix_in(url: str) -> str:
    """What the names begin with, by the broker's URL."""
    return parse_qs(urlsplit(url).query).get("prefix", ["sfumato"])[0]


def delay_level(seconds: float) -> int:
    """The shortest length that is long enough, or the longest there is."""
    return next((level for level in DELAYS if level >= seconds), DELAYS[-1])


@dataclass(frozen=True, slots=True)
class Topology:
    """Names under one prefix, and how they are declared.

    Args:
        max_deliveries: times that a ring may be received without being acknowledged.
    """

    prefix: str
    max_deliveries: int

    @property
    def exchange(self) -> str:
        return self.prefix

    @property
    def dead_exchange(self) -> str:
        return f"{self.prefix}.dead"

    def queue(self, runtime: str) -> str:
        return f"{self.prefix}.{runtime}"

    def dead_queue(self, runtime: str) -> str:
        return f"{self.prefix}.{runtime}.dead"

    def delay_queue(self, runtime: str, level: int) -> str:
        return f"{self.prefix}.{runtime}.delay.{level}"

    def queues(self, runtime: str) -> list[str]:
        """Every queue of a runtime."""
        delays = [self.delay_queue(runtime, level) for level in DELAYS]
        return [self.queue(runtime), self.dead_queue(runtime), *delays]

    async def declare_exchanges(self, channel: AbstractChannel) -> None:
        for name, kind in (
            (self.exchange, ExchangeType.TOPIC),
            (self.dead_exchange, ExchangeType.DIRECT),
        ):
            await channel.declare_exchange(name, kind, durable=True, timeout=ANSWER_SECONDS)

    async def declare(self, channel: AbstractChannel, runtime: str) -> None:
        await _declare(channel, self.dead_queue(runtime), {})
        await _bind(channel, self.dead_queue(runtime), self.dead_exchange, runtime)
        await _declare(
            channel,
            self.queue(runtime),
            {
                # Deliveries beyond the first; the adapter counts them too.
                "x-delivery-limit": self.max_deliveries - 1,
                **_dead_letters_to(self.dead_exchange, runtime),
            },
        )
        await _bind(channel, self.queue(runtime), self.exchange, runtime)
        for level in DELAYS:
            waiting = {"x-message-ttl": 1000 * level, **_dead_letters_to(self.exchange, runtime)}
            await _declare(channel, self.delay_queue(runtime, level), waiting)


def _dead_letters_to(exchange: str, routing_key: str) -> dict[str, Any]:
    return {
        "x-dead-letter-exchange": exchange,
        "x-dead-letter-routing-key": routing_key,
        # At least once needs a queue that refuses rather than drops when it is full.
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


async def _declare(channel: AbstractChannel, name: str, arguments: dict[str, Any]) -> None:
    arguments = {"x-queue-type": "quorum", **arguments}
    await channel.declare_queue(name, durable=True, arguments=arguments, timeout=ANSWER_SECONDS)


async def _bind(channel: AbstractChannel, queue: str, exchange: str, routing_key: str) -> None:
    bound = await channel.get_queue(queue, ensure=False)
    await bound.bind(exchange, routing_key, timeout=ANSWER_SECONDS)


async def count(channel: AbstractChannel, queue: str) -> int:
    """Messages that are ready in a queue."""
    declared = await channel.declare_queue(queue, passive=True, timeout=ANSWER_SECONDS)
    return declared.declaration_result.message_count or 0


@contextlib.contextmanager
def refusals(prefix: str) -> Iterator[None]:
    """Turn the broker's refusal to declare something into ``StartupRefused``."""
    try:
        yield
    except ChannelPreconditionFailed as error:
        raise StartupRefused(
            f"RabbitMQ has a queue or exchange of ours with other arguments: {error}. "
            "Nothing was changed, and the jobs are in the job store.",
            field="queue_url",
            accepted=f"another prefix than {prefix!r}, or that queue deleted once it is empty",
        ) from None
    except ChannelClosed as error:
        raise StartupRefused(
            f"RabbitMQ does not let this user declare its queues: {error}.",
            field="queue_url",
            accepted=f"configure, write and read permission on names that begin with {prefix!r}, "
            "and write on the default exchange",
        ) from None
