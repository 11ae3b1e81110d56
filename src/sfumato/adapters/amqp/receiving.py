"""One message at a time: waiting for it, and holding it until it is settled.

Each message has a channel of its own for as long as it is held. RabbitMQ closes the channel of a
message that is not acknowledged in time, and gives back all that the channel had: so it is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue

from sfumato.adapters.amqp.link import ANSWER_SECONDS, Session, answers
from sfumato.core.errors import Unavailable

log = logging.getLogger(__name__)

#: Seconds after which a held message is given up for others, however often it was extended. The
#: broker's own limit is half an hour by default; it ends the channel, this ends the hold alone.
LONGEST_HOLD = 25 * 60.0
#: Tells the broker (3.12 and later; others ignore it) to wait longer than that for us.
_PATIENT: dict[str, Any] = {"x-consumer-timeout": int(2 * LONGEST_HOLD * 1000)}


class Hold:
    """A received message, hidden from others until its visibility ends.

    Args:
        expired: called, in a task, when the visibility has ended without any other settlement.
    """

    def __init__(
        self,
        session: Session,
        channel: AbstractChannel,
        message: AbstractIncomingMessage,
        *,
        visibility: float,
        expired: Callable[[Hold], Awaitable[None]],
    ) -> None:
        self.message = message
        self.channel = channel
        self.session = session
        self._expired = expired
        self._settled = False
        self._loop = asyncio.get_running_loop()
        self._last_moment = self._loop.time() + LONGEST_HOLD
        self._timer = self._loop.call_later(min(visibility, LONGEST_HOLD), self._expire)
        self._expiring: asyncio.Task[None] | None = None

    @property
    def ours(self) -> bool:
        """False once it is settled, or its connection or channel is gone."""
        return not (self._settled or self.session.lost or self.channel.is_closed)

    def extend(self, seconds: float) -> bool:
        if not self.ours:
            return False
        until = min(self._loop.time() + seconds, self._last_moment)
        self._timer.cancel()
        self._timer = self._loop.call_at(until, self._expire)
        return True

    async def ack(self) -> None:
        if self.settle():
            with answers("acknowledge a message"):
                await self.message.ack()
            await self.session.give_back(self.channel)

    async def requeue(self, *, failed: bool = False) -> None:
        """Give it to the next receiver. ``failed``: it counts as a failure also where a plain
        return does not (RabbitMQ 4.3)."""
        if self.settle():
            with answers("release a message"):
                if failed:
                    await self.message.reject(requeue=True)
                else:
                    await self.message.nack(requeue=True)
            await self.session.give_back(self.channel)

    async def set_aside(self) -> None:
        """To the dead letters of its queue."""
        if self.settle():
            with answers("set a message aside"):
                await self.message.reject(requeue=False)
            await self.session.give_back(self.channel)

    def settle(self) -> bool:
        """True for the one caller who may settle it now."""
        ours = self.ours
        self._settled = True
        self._timer.cancel()
        return ours

    def _expire(self) -> None:
        self._expiring = self._loop.create_task(self._tell_expired())

    async def _tell_expired(self) -> None:
        try:
            await self._expired(self)
        except Unavailable as error:
            log.info("a message came back with its connection: %s", error)


class _Releasable(Protocol):
    async def release(self) -> None: ...


_Delivery = TypeVar("_Delivery", bound=_Releasable)


async def stoppable(
    receive: Callable[[asyncio.Event], Coroutine[Any, Any, _Delivery | None]],
) -> _Delivery | None:
    """A receive that takes nothing with it when it is cancelled.

    Args:
        receive: ends soon after the event that it is given is set.
    """
    stop = asyncio.Event()
    receiving = asyncio.create_task(receive(stop))
    try:
        return await asyncio.shield(receiving)
    except asyncio.CancelledError:
        # A message may be on its way to us: wait for the answer, and send it back.
        stop.set()
        with contextlib.suppress(Unavailable):
            delivery = await receiving
            if delivery is not None:
                await delivery.release()
        raise


async def receive_from(
    session: Session, queues: Sequence[str], *, wait: float, stop: asyncio.Event
) -> tuple[AbstractChannel, AbstractIncomingMessage] | None:
    """The next message of any of the queues, with its channel; None after ``wait`` seconds.

    Nothing else stays unacknowledged. Setting ``stop`` ends the wait at once; whoever sets it must
    still look at what is answered.

    Raises ``Unavailable`` when the connection or a queue goes meanwhile.
    """
    with answers("receive"):
        channel = await session.take_channel()
        places = [await channel.get_queue(name, ensure=False) for name in queues]
        # With several queues a message that waits is fetched, since consumers would each bring one.
        if len(places) > 1 or wait <= 0:
            for place in places:
                message = await place.get(fail=False, timeout=ANSWER_SECONDS)
                if message is not None:
                    return channel, message
        found: list[AbstractIncomingMessage] = []
        if wait > 0 and not stop.is_set():
            found = await _consume(channel, places, wait=wait, stop=stop)
        for surplus in found[1:]:
            await surplus.nack(requeue=True)
    if not found:
        await session.give_back(channel)
        return None
    return channel, found[0]


async def _consume(
    channel: AbstractChannel, queues: Sequence[AbstractQueue], *, wait: float, stop: asyncio.Event
) -> list[AbstractIncomingMessage]:
    """What the first of the queues to have something brings; at most one message of each."""
    found: list[AbstractIncomingMessage] = []
    happened = asyncio.Event()

    async def keep(message: AbstractIncomingMessage) -> None:
        found.append(message)
        happened.set()

    def end(*_: object) -> None:
        happened.set()

    beneath = await channel.get_underlay_channel()
    channel.close_callbacks.add(end)
    beneath.on_consumer_cancel_callbacks.add(end)  # the queue was deleted, or its node is gone
    stopping = asyncio.ensure_future(stop.wait())
    stopping.add_done_callback(end)
    try:
        tags = [
            await queue.consume(keep, arguments=_PATIENT, timeout=ANSWER_SECONDS)
            for queue in queues
        ]
        try:
            async with asyncio.timeout(wait):
                await happened.wait()
        except TimeoutError:
            pass
        if channel.is_closed:
            raise Unavailable("The channel to RabbitMQ was closed while a receiver waited.")
        for queue, tag in zip(queues, tags, strict=True):
            # A single queue that has brought its message brings no more before the next
            # acknowledgement, and hears of this before it.
            at_once = bool(found) and len(queues) == 1
            await queue.cancel(tag, timeout=ANSWER_SECONDS, nowait=at_once)
    finally:
        stopping.cancel()
        channel.close_callbacks.discard(end)
        beneath.on_consumer_cancel_callbacks.discard(end)
    return found
