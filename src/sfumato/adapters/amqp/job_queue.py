"""The doorbell on RabbitMQ."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from sfumato.adapters.amqp.link import ANSWER_SECONDS, Link, Session, answers
from sfumato.adapters.amqp.messages import copy_of, deliveries_of, message_of, ring_of
from sfumato.adapters.amqp.receiving import Hold, receive_from, stoppable
from sfumato.adapters.amqp.topology import DELAYS, Topology, count, delay_level, prefix_in, refusals
from sfumato.core.ports import MAX_DELIVERIES, QueueDepth, QueueTraits, Ring

log = logging.getLogger(__name__)

_Result = TypeVar("_Result")

#: Quorum queues keep strict priorities from this version on.
_PRIORITIES_SINCE = (4, 3)
#: A receiver that waited so long looks again whether its queues are still there.
_LONGEST_WAIT = 60.0
#: Seconds for which a call waits for a broker that is away.
_PATIENCE = 5.0


class AmqpDelivery:
    """The ``Delivery`` port."""

    def __init__(self, queue: AmqpJobQueue, hold: Hold, ring: Ring, deliveries: int) -> None:
        self._queue = queue
        self._hold = hold
        self.ring = ring
        self.deliveries = deliveries

    async def ack(self) -> None:
        await self._hold.ack()

    async def extend(self, seconds: float) -> bool:
        return self._hold.extend(seconds)

    async def release(self, *, delay: float = 0.0) -> None:
        await self._queue.release(self._hold, self.ring, self.deliveries, delay)


class AmqpJobQueue:
    """The ``JobQueue`` port: a quorum queue a runtime. Use :meth:`open`.

    ``hidden`` in its depth counts what this process holds and all that is delayed; RabbitMQ tells
    only its management API what other processes hold. Ring and release wait for the broker's
    confirmation. A delay is at least a second, and rounded up to the next length
    that there is a queue for.
    """

    def __init__(self, link: Link, topology: Topology, version: tuple[int, ...]) -> None:
        self._link = link
        self._topology = topology
        self._declared: set[str] = set()
        self._declaring = asyncio.Lock()
        self._holds: dict[Hold, str] = {}
        self.traits = QueueTraits(
            priorities=version >= _PRIORITIES_SINCE, single=False, longest_delay=float(DELAYS[-1])
        )

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        prefix: str | None = None,
        max_deliveries: int = MAX_DELIVERIES,
        runtimes: Sequence[str] = (),
    ) -> AmqpJobQueue:
        """Connect, and declare what the runtimes need. Those of later calls are declared then.

        Args:
            url: ``amqp://user:password@host:port/vhost``, ``amqps://`` with TLS; in its query
                also ``heartbeat`` in seconds, and ``prefix``.
            prefix: what the names of exchanges and queues begin with; else the URL's, else
                ``sfumato``.

        Raises:
            StartupRefused: no connection, a wrong password or virtual host, no permission, or a
                queue that exists with other arguments.
        """
        link = await Link.open(url, setting="queue_url")
        try:
            session = await link.session(patience=0.0)
            names = Topology(prefix or prefix_in(url), max_deliveries)
            queue = cls(link, names, session.version)
            with answers("declare its queues"):
                await queue._declare(session, *runtimes)
        except BaseException:
            await link.close()
            raise
        return queue

    async def ring(self, ring: Ring, *, delay: float = 0.0) -> None:
        await self._publish(ring, delay=delay)

    async def receive(
        self, runtimes: Sequence[str], *, visibility: float, timeout: float
    ) -> AmqpDelivery | None:
        return await stoppable(
            lambda stop: self._receive(runtimes, visibility=visibility, timeout=timeout, stop=stop)
        )

    async def depth(self, runtime: str) -> QueueDepth:
        async def look(session: Session) -> QueueDepth:
            async with session.private_channel() as channel:
                ready, dead, *delayed = [
                    await count(channel, name) for name in self._topology.queues(runtime)
                ]
            held = sum(of == runtime and hold.ours for hold, of in self._holds.items())
            return QueueDepth(ready=ready, hidden=held + sum(delayed), dead=dead)

        return await self._try("count the rings", [runtime], look)

    async def redrive(self, runtime: str) -> int:
        async def move(session: Session) -> int:
            name = self._topology.dead_queue(runtime)
            async with session.private_channel() as channel:
                dead = await channel.get_queue(name, ensure=False)
                moved = 0
                for _ in range(await count(channel, name)):
                    message = await dead.get(fail=False, timeout=ANSWER_SECONDS)
                    if message is None:
                        break
                    try:
                        await self._publish(ring_of(message))
                        moved += 1
                    except ValueError:
                        # It stays; published anew, since a broker counts what is only put back.
                        await channel.default_exchange.publish(
                            copy_of(message), name, mandatory=True, timeout=ANSWER_SECONDS
                        )
                    await message.ack()
            return moved

        return await self._try("redrive", [runtime], move)

    async def close(self) -> None:
        """What is still held goes to the next receiver at once."""
        for hold in list(self._holds):
            hold.settle()
        await self._link.close()

    async def release(self, hold: Hold, ring: Ring, deliveries: int, delay: float) -> None:
        """What :meth:`AmqpDelivery.release` does."""
        if delay <= 0:
            await hold.requeue()
        elif hold.ours:
            # The copy first: a crash between the two makes a second ring, which is harmless.
            await self._publish(ring, delay=delay, deliveries=deliveries)
            await hold.ack()

    # -- receiving -------------------------------------------------------------------------------

    async def _receive(
        self, runtimes: Sequence[str], *, visibility: float, timeout: float, stop: asyncio.Event
    ) -> AmqpDelivery | None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        queues = [self._topology.queue(runtime) for runtime in runtimes]

        async def once(session: Session) -> _Received | None:
            wait = min(deadline - loop.time(), _LONGEST_WAIT)
            found = await receive_from(session, queues, wait=wait, stop=stop)
            return found and (session, *found)

        while True:
            left = deadline - loop.time()
            received = await self._try("receive", runtimes, once, patience=left, stop=stop)
            if received is not None:
                delivery = await self._accept(received, visibility)
                if delivery is not None:
                    return delivery
            elif stop.is_set() or loop.time() >= deadline:
                return None

    async def _accept(self, received: _Received, visibility: float) -> AmqpDelivery | None:
        """The delivery, or None for a message that was set aside."""
        session, channel, message = received
        hold = Hold(session, channel, message, visibility=visibility, expired=self._expired)
        try:
            ring = ring_of(message)
        except ValueError as reason:
            log.error("a message for %s is no ring: %s. Set aside.", message.routing_key, reason)  # noqa: TRY400
            await hold.set_aside()
            return None
        self._holds = {hold: of for hold, of in self._holds.items() if hold.ours}
        self._holds[hold] = ring.runtime
        return AmqpDelivery(self, hold, ring, deliveries_of(message))

    async def _expired(self, hold: Hold) -> None:
        if deliveries_of(hold.message) >= self._topology.max_deliveries:
            await hold.set_aside()
        else:
            await hold.requeue(failed=True)

    # -- publishing ------------------------------------------------------------------------------

    async def _publish(self, ring: Ring, *, delay: float = 0.0, deliveries: int = 0) -> None:
        message = message_of(ring, earlier_deliveries=deliveries)
        exchange, key = self._topology.exchange, ring.runtime
        if delay > 0:
            exchange, key = "", self._topology.delay_queue(ring.runtime, delay_level(delay))

        async def publish(session: Session) -> None:
            channel = await session.publishing_channel()
            place = await channel.get_exchange(exchange, ensure=False)
            await place.publish(message, key, mandatory=True, timeout=ANSWER_SECONDS)

        await self._try(f"ring for job {ring.job_id}", [ring.runtime], publish)

    # -- the connection --------------------------------------------------------------------------

    async def _try(
        self,
        aim: str,
        runtimes: Sequence[str],
        act: Callable[[Session], Awaitable[_Result]],
        *,
        patience: float = _PATIENCE,
        stop: asyncio.Event | None = None,
    ) -> _Result:
        """Do it where the runtimes' queues are; arguments as of :meth:`Link.run`."""

        async def ready(session: Session) -> _Result:
            await self._declare(session, *runtimes)
            return await act(session)

        return await self._link.run(
            aim, ready, patience=patience, stop=stop, missing=self._declared.clear
        )

    async def _declare(self, session: Session, *runtimes: str) -> None:
        """Declare the exchanges, and each runtime's queues, once."""
        if self._declared.issuperset(runtimes) and self._declared:
            return
        async with self._declaring, session.private_channel() as channel:
            with refusals(self._topology.prefix):
                if not self._declared:
                    await self._topology.declare_exchanges(channel)
                    self._declared.add("")
                for runtime in set(runtimes) - self._declared:
                    await self._topology.declare(channel, runtime)
                    self._declared.add(runtime)


_Received = tuple[Session, AbstractChannel, AbstractIncomingMessage]
