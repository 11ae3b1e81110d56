"""The doorbell on SQS: one queue a runtime, and an SNS topic through which others may ring.

Rings of ours go straight to the runtime's queue. SNS would add a hop, has no delays, and takes up
to 15 minutes to heed a new filter; the topic is there for those who do not know our queues.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from sfumato.adapters.sqs.address import SqsAddress
from sfumato.adapters.sqs.channel import LONGEST_DELAY, Channel
from sfumato.adapters.sqs.client import AwsClients
from sfumato.adapters.sqs.envelopes import open_envelope
from sfumato.adapters.sqs.receiving import Receipt, Receiver
from sfumato.adapters.sqs.topology import Subscription, Topology, dead_name
from sfumato.core.errors import StartupRefused, Unavailable
from sfumato.core.ports import MAX_DELIVERIES, Clock, QueueDepth, QueueTraits, Ring
from sfumato.core.tasks import read_object

log = logging.getLogger(__name__)

_SETTING = "queue_url"
_QUEUE_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")
#: Seconds for which dead messages are hidden while they are looked through.
_REDRIVE_SECONDS = 60
#: Requests under way beside those of the jobs that are held: rings, looks, polls.
_MORE_CONNECTIONS = 16


class SqsDelivery:
    """The ``Delivery`` port."""

    def __init__(self, ring: Ring, receipt: Receipt) -> None:
        self._receipt = receipt
        self.ring = ring
        self.deliveries = receipt.message.deliveries

    async def ack(self) -> None:
        await self._receipt.delete()

    async def extend(self, seconds: float) -> bool:
        return await self._receipt.extend(seconds)

    async def release(self, *, delay: float = 0.0) -> None:
        await self._receipt.release(delay)


class SqsJobQueue:
    """The ``JobQueue`` port on SQS. Make it with :meth:`open`."""

    traits = QueueTraits(priorities=False, single=False, longest_delay=LONGEST_DELAY)

    def __init__(
        self,
        clients: AwsClients,
        clock: Clock,
        *,
        prefix: str,
        topic: str | None,
        max_deliveries: int = MAX_DELIVERIES,
    ) -> None:
        self._clients = clients
        self._clock = clock
        self._prefix = prefix
        self._topic = topic
        self._topology = Topology(clients, setting=_SETTING, max_deliveries=max_deliveries)
        self._receiver = Receiver(clock)
        self._channels: dict[str, Channel] = {}

    @classmethod
    async def open(
        cls,
        url: str,
        clock: Clock,
        *,
        runtimes: Sequence[str] = (),
        endpoint: str | None = None,
        max_jobs: int = 16,
        max_deliveries: int = MAX_DELIVERIES,
    ) -> SqsJobQueue:
        """Connect, and make the queues of ``runtimes`` where they are missing.

        Args:
            url: ``sqs://region/prefix``; ``?topic=`` names another topic than the prefix, and
                ``?topic=off`` does without one.
            endpoint: another address than AWS's own.
            max_jobs: rings that one process holds at once.

        Raises:
            StartupRefused: naming what is wrong or missing.
        """
        address = SqsAddress.parse(
            url, setting=_SETTING, default_name="sfumato", options=("topic",)
        )
        topic = address.options.get("topic", address.name)
        connections = max_jobs + len(runtimes) + _MORE_CONNECTIONS
        clients = AwsClients(address.region, endpoint=endpoint, connections=connections)
        await clients.open()
        queue = cls(
            clients,
            clock,
            prefix=address.name,
            topic=None if topic == "off" else topic,
            max_deliveries=max_deliveries,
        )
        try:
            await asyncio.gather(*(queue._channel(runtime).open() for runtime in runtimes))
        except BaseException as error:
            await clients.close()
            if isinstance(error, Unavailable):
                raise StartupRefused(error.message, field=_SETTING) from None
            raise
        return queue

    async def ring(self, ring: Ring, *, delay: float = 0.0) -> None:
        await self._channel(ring.runtime).send(
            _body_of(ring), delay=delay, attributes={"runtime": ring.runtime}
        )

    async def receive(
        self, runtimes: Sequence[str], *, visibility: float, timeout: float
    ) -> SqsDelivery | None:
        channels = {self._channel(runtime): runtime for runtime in runtimes}
        deadline, left = self._clock.monotonic() + timeout, timeout
        while True:
            receipt = await self._receiver.receive(
                list(channels), visibility=visibility, timeout=left
            )
            if receipt is None:
                return None
            ring = _ring_of(receipt.message.body, channels[receipt.channel])
            if ring is not None:
                return SqsDelivery(ring, receipt)
            log.warning(
                "the SQS message %s for the runtime %s is no ring; it was set aside",
                receipt.message.id,
                channels[receipt.channel],
            )
            await receipt.set_aside()
            left = max(0.0, deadline - self._clock.monotonic())

    async def depth(self, runtime: str) -> QueueDepth:
        channel = self._channel(runtime)
        (ready, hidden), dead = await asyncio.gather(channel.counts(), channel.counts(dead=True))
        return QueueDepth(ready=ready, hidden=hidden, dead=sum(dead))

    async def redrive(self, runtime: str) -> int:
        # SQS can move all dead messages by itself, but not leave there what is no ring, nor tell
        # how many it moved.
        channel = self._channel(runtime)
        moved, left = 0, []
        while messages := await channel.take_dead(visibility=_REDRIVE_SECONDS, wait=1):
            for message in messages:
                if _ring_of(message.body, runtime) is None:
                    left.append(message.handle)
                    continue
                await channel.send(message.body, attributes=message.attributes)
                await channel.delete(message.handle, dead=True)
                moved += 1
        for handle in left:
            await channel.hide(handle, 0, dead=True)
        return moved

    async def close(self) -> None:
        """Takes as long as a poll under way may, at most 2 seconds."""
        await self._receiver.close()
        await self._clients.close()

    def _channel(self, runtime: str) -> Channel:
        if runtime not in self._channels:
            name = f"{self._prefix}-{runtime}"
            if not _QUEUE_NAME.fullmatch(dead_name(name)):
                raise StartupRefused(
                    f"The runtime {runtime!r} can't have a queue in SQS.",
                    field=_SETTING,
                    accepted="names of letters, digits, - and _, 80 with prefix and -dead at most",
                )
            wanted = None
            if self._topic is not None:
                wanted = Subscription(self._topic, {"runtime": (runtime,)})
            self._channels[runtime] = Channel(
                self._clients, partial(self._topology.ensure, name, wanted)
            )
        return self._channels[runtime]


def _body_of(ring: Ring) -> str:
    body = {
        "job_id": ring.job_id,
        "runtime": ring.runtime,
        "attempt": ring.attempt,
        "priority": ring.priority,
        "traceparent": ring.traceparent,
    }
    return json.dumps(body)


def _ring_of(body: str, runtime: str) -> Ring | None:
    """The ring that a message is; None when it is none. Those who ring through the topic need to
    give the job alone."""
    data = read_object(open_envelope(body, {}).text)
    if data is None:
        return None
    job_id = data.get("job_id")
    attempt, priority = data.get("attempt", 0), data.get("priority", 0)
    traceparent = data.get("traceparent")
    if not isinstance(job_id, str) or not job_id or not isinstance(traceparent, str | None):
        return None
    if not _is_whole(attempt) or not _is_whole(priority):
        return None
    return Ring(job_id, runtime, attempt=attempt, priority=priority, traceparent=traceparent)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
