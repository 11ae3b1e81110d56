"""Received messages: how long they are ours, and who of those who wait gets the next one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import re
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass

from sfumato.adapters.sqs.channel import BATCH, LONGEST_VISIBILITY, Channel, Message
from sfumato.adapters.sqs.client import Rejected, Stale
from sfumato.core.errors import SfumatoError, Unavailable
from sfumato.core.ports import Clock

log = logging.getLogger(__name__)

#: Longest poll, in seconds. A poll that is given up takes a message and tells nobody, so each is
#: waited for when the queue is closed; that is why it is not SQS's longest, 20.
_LONGEST_POLL = 2

#: A message is handed over this long before SQS would take it from us, in seconds.
_MARGIN = 60

#: Attributes of a copy: the id of the message that it stands for, and when that was sent.
_ORIGIN, _ORIGIN_SENT = "sfumato-origin", "sfumato-origin-sent"
# Anybody who may send may set them.
_IDENTITY, _MOMENT = re.compile(r"[A-Za-z0-9-]{1,100}"), re.compile(r"\d{1,10}(\.\d{1,9})?")


class Receipt:
    """A message that is ours for a while.

    SQS answers a stale receipt in more than one way, a wrong one among them: it may say nothing
    and do nothing. So we keep the time ourselves, and ask with a receipt only while it is good.
    """

    def __init__(
        self, channel: Channel, message: Message, clock: Clock, *, taken_at: float, visibility: int
    ) -> None:
        self._channel = channel
        self._clock = clock
        self._taken_at = taken_at
        self._until = taken_at + visibility
        self._spent = False
        self.message = message

    @property
    def channel(self) -> Channel:
        return self._channel

    @property
    def origin(self) -> str:
        """The same for every delivery of the message and for every copy that we make of it."""
        named = self.message.attributes.get(_ORIGIN, "")
        return named if _IDENTITY.fullmatch(named) else self.message.id

    @property
    def origin_sent_at(self) -> float:
        sent = self.message.attributes.get(_ORIGIN_SENT, "")
        return float(sent) if _MOMENT.fullmatch(sent) else self.message.sent_at

    async def delete(self) -> None:
        if self._is_ours():
            with contextlib.suppress(Stale):
                await self._channel.delete(self.message.handle)
            self._spent = True

    async def extend(self, seconds: float) -> bool:
        """Hide it for ``seconds`` from now; False when it is not ours any more."""
        if not self._is_ours():
            return False
        now, whole = self._clock.monotonic(), _whole(seconds)
        if now + whole > self._taken_at + LONGEST_VISIBILITY - _MARGIN:
            return await self._hand_over(whole)
        try:
            await self._channel.hide(self.message.handle, whole)
        except Stale:
            self._spent = True
            return False
        except Rejected:
            return await self._hand_over(whole)
        self._until = now + whole
        return True

    async def release(self, delay: float = 0.0) -> None:
        if self._is_ours():
            left = self._taken_at + LONGEST_VISIBILITY - _MARGIN - self._clock.monotonic()
            with contextlib.suppress(Stale, Rejected):
                await self._channel.hide(self.message.handle, _whole(max(0.0, min(delay, left))))
            self._spent = True

    async def set_aside(self) -> None:
        await self._channel.set_aside(self.message)
        self._spent = True

    async def _hand_over(self, seconds: int) -> bool:
        """Nobody may hold a message for more than 12 hours: a copy takes its place, and waits as
        long as this one would have been hidden."""
        await self._channel.send(
            self.message.body,
            delay=seconds,
            attributes={
                **self.message.attributes,
                _ORIGIN: self.origin,
                _ORIGIN_SENT: str(self.origin_sent_at),
            },
        )
        await self.delete()
        log.info("a message was held for 12 hours; a copy took its place")
        return True

    def _is_ours(self) -> bool:
        return not self._spent and self._clock.monotonic() < self._until


@dataclass(frozen=True, slots=True)
class _Waiter:
    """Somebody who waits for one message, of whichever channel answers first."""

    answer: asyncio.Future[Receipt]
    deadline: float


class Receiver:
    """Long polls, shared by all who wait for the same queue in this process.

    Every poll asks for as many messages as somebody waits for, and is never cancelled: what it
    brings for somebody who left goes to the next who waits, or is visible again at once.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: dict[tuple[Channel, int], list[_Waiter]] = {}
        self._polls: dict[tuple[Channel, int], asyncio.Task[None]] = {}
        self._errands: set[asyncio.Task[None]] = set()

    async def receive(
        self, channels: Sequence[Channel], *, visibility: float, timeout: float
    ) -> Receipt | None:
        """The next message of any of the channels; None after ``timeout`` seconds without one."""
        whole = max(1, _whole(visibility))
        if timeout < 1:  # less than the shortest long poll
            found = await self._look(channels, whole)
            if found is None and timeout > 0:
                await asyncio.sleep(timeout)
                found = await self._look(channels, whole)
            return found
        answer: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(answer, self._clock.monotonic() + timeout)
        for channel in channels:
            self._join(channel, whole, waiter)
        try:
            await asyncio.wait((answer,), timeout=timeout)
        except asyncio.CancelledError:
            if not answer.cancel() and answer.exception() is None:
                self._errand(_give_back(answer.result()))
            raise
        return None if answer.cancel() else answer.result()

    async def close(self) -> None:
        """Waits for the polls under way, so that none of them takes a message with it."""
        for key in self._waiting:
            for waiter in self._still_waiting(key):
                waiter.answer.set_exception(Unavailable("The queue was closed."))
        for tasks in (self._polls.values(), self._errands):
            if tasks:
                await asyncio.wait(list(tasks))

    def _join(self, channel: Channel, visibility: int, waiter: _Waiter) -> None:
        key = channel, visibility
        self._waiting.setdefault(key, []).append(waiter)
        if key not in self._polls:
            self._polls[key] = asyncio.create_task(self._poll(channel, visibility))

    async def _poll(self, channel: Channel, visibility: int) -> None:
        """Poll while somebody waits."""
        key = channel, visibility
        try:
            while waiters := self._still_waiting(key):
                now = self._clock.monotonic()
                left = max(waiter.deadline for waiter in waiters) - now
                messages = await channel.take(
                    count=min(BATCH, len(waiters)),
                    visibility=visibility,
                    wait=max(1, min(_LONGEST_POLL, math.ceil(left))),
                )
                for message in messages:
                    self._hand_out(
                        key,
                        Receipt(channel, message, self._clock, taken_at=now, visibility=visibility),
                    )
        except Exception as error:  # noqa: BLE001 - whoever waits raises it
            for waiter in self._still_waiting(key):
                waiter.answer.set_exception(error)
        finally:
            del self._polls[key]

    def _still_waiting(self, key: tuple[Channel, int]) -> list[_Waiter]:
        waiters = [waiter for waiter in self._waiting[key] if not waiter.answer.done()]
        self._waiting[key] = waiters
        return waiters

    def _hand_out(self, key: tuple[Channel, int], receipt: Receipt) -> None:
        waiters = self._still_waiting(key)
        if waiters:
            waiters[0].answer.set_result(receipt)
        else:
            self._errand(_give_back(receipt))

    async def _look(self, channels: Sequence[Channel], visibility: int) -> Receipt | None:
        looking = asyncio.ensure_future(self._look_at_each(channels, visibility))
        try:
            return await asyncio.shield(looking)
        except asyncio.CancelledError:
            self._errand(_give_back_when_found(looking))
            raise

    async def _look_at_each(self, channels: Sequence[Channel], visibility: int) -> Receipt | None:
        for channel in channels:
            now = self._clock.monotonic()
            for message in await channel.take(count=1, visibility=visibility, wait=0):
                return Receipt(channel, message, self._clock, taken_at=now, visibility=visibility)
        return None

    def _errand(self, errand: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(errand)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)


async def _give_back(receipt: Receipt) -> None:
    try:
        await receipt.release()
    except SfumatoError as error:
        log.warning("a message stays hidden until its visibility ends: %s", error)


async def _give_back_when_found(looking: asyncio.Future[Receipt | None]) -> None:
    try:
        receipt = await looking
    except SfumatoError:
        return
    if receipt is not None:
        await _give_back(receipt)


def _whole(seconds: float) -> int:
    """Whole seconds, as SQS counts them, and no more than it takes."""
    return min(LONGEST_VISIBILITY, math.ceil(seconds))
