"""Requests in a queue of another system's making: ``{"prompt": …, "count": …}``.

Such a message carries no id, so one that comes again could not be told from a twin. Before anything
is done for it, it is therefore adopted: one transaction puts a copy with an id at the queue's end
and acknowledges the original. What was published is kept in the same queue, where scalers look.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
import uuid
from typing import Any

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity

from sfumato.adapters.amqp.link import ANSWER_SECONDS, Link, Session, answers
from sfumato.adapters.amqp.messages import copy_of
from sfumato.adapters.amqp.receiving import Hold, receive_from, stoppable
from sfumato.core.errors import InvalidRequest
from sfumato.core.ports import Task
from sfumato.core.request import GenerationRequest

log = logging.getLogger(__name__)

#: What may stand in the keys of results.
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_LONGEST_WAIT = 60.0
_SEED_BITS = 32
_REASON = "sfumato-reason"


class AmqpTaskDelivery:
    """The ``TaskDelivery`` port."""

    def __init__(self, hold: Hold, task: Task) -> None:
        self._hold = hold
        self.task = task

    async def ack(self) -> None:
        await self._hold.ack()

    async def extend(self, seconds: float) -> bool:
        return self._hold.extend(seconds)

    async def release(self, *, delay: float = 0.0) -> None:
        """A delay lasts as long as this process at most: the queue is not ours to add one to."""
        if delay > 0:
            self._hold.extend(delay)
        else:
            await self._hold.requeue()


class AmqpTaskSource:
    """The ``TaskSource`` port on a queue as it is found, or else made as its owner makes it.

    A message that is no task goes to the queue ``<name>.dead``, with its reason in a header.
    """

    def __init__(self, link: Link, queue: str) -> None:
        self._link = link
        self._queue = queue
        self._declared = False

    @classmethod
    async def open(cls, url: str, *, queue: str = "tasks") -> AmqpTaskSource:
        """Raises ``StartupRefused`` when the broker can't be used."""
        source = cls(await Link.open(url, setting="tasks_url"), queue)
        try:
            await source._link.run("declare the queue of tasks", source._declare, patience=0.0)
        except BaseException:
            await source.close()
            raise
        return source

    async def receive(self, *, visibility: float, timeout: float) -> AmqpTaskDelivery | None:
        return await stoppable(
            lambda stop: self._receive(visibility=visibility, timeout=timeout, stop=stop)
        )

    async def close(self) -> None:
        await self._link.close()

    async def _receive(
        self, *, visibility: float, timeout: float, stop: asyncio.Event
    ) -> AmqpTaskDelivery | None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout

        async def once(session: Session) -> AmqpTaskDelivery | bool:
            await self._declare(session)
            wait = min(deadline - loop.time(), _LONGEST_WAIT)
            found = await receive_from(session, [self._queue], wait=wait, stop=stop)
            if found is None:
                return False
            return await self._accept(session, *found, visibility) or True

        while True:
            left = deadline - loop.time()
            received = await self._link.run(
                "take a task", once, patience=left, stop=stop, missing=self._forget
            )
            if isinstance(received, AmqpTaskDelivery):
                return received
            # A message that was adopted or set aside is no reason to stop looking.
            if stop.is_set() or (not received and loop.time() >= deadline):
                return None

    async def _accept(
        self,
        session: Session,
        channel: AbstractChannel,
        message: AbstractIncomingMessage,
        visibility: float,
    ) -> AmqpTaskDelivery | None:
        """The delivery; None for a message that was adopted or set aside."""
        identity = message.message_id or ""
        if not _ID.fullmatch(identity):
            await _adopt(channel, message, self._queue)
            return None
        try:
            request = _request_of(message.body, identity)
        except (InvalidRequest, ValueError) as error:
            await self._set_aside(session, message, str(error))
            await session.give_back(channel)
            return None
        task = Task(identity, request, headers=_trace_headers(message))
        hold = Hold(session, channel, message, visibility=visibility, expired=Hold.requeue)
        return AmqpTaskDelivery(hold, task)

    async def _set_aside(
        self, session: Session, message: AbstractIncomingMessage, reason: str
    ) -> None:
        name = f"{self._queue}.dead"
        # The reason may quote the prompt; it lies beside the message.
        log.error("a message in %s is no task; set aside in %s with the reason", self._queue, name)
        publisher = await session.publishing_channel()
        await publisher.declare_queue(name, durable=True, timeout=ANSWER_SECONDS)
        copy = copy_of(message)
        copy.headers[_REASON] = reason
        await publisher.default_exchange.publish(copy, name, mandatory=True, timeout=ANSWER_SECONDS)
        await message.ack()

    async def _declare(self, session: Session) -> None:
        """Use the queue as it is; make it when it is missing, as those who fill it do."""
        if self._declared:
            return
        try:
            async with session.private_channel() as channel:
                await channel.declare_queue(self._queue, passive=True, timeout=ANSWER_SECONDS)
        except ChannelNotFoundEntity:
            try:
                async with session.private_channel() as channel:
                    await channel.declare_queue(self._queue, timeout=ANSWER_SECONDS)
            except AMQPError:
                # RabbitMQ 4.3 and later take no queue that is neither durable nor exclusive.
                async with session.private_channel() as channel:
                    await channel.declare_queue(self._queue, durable=True, timeout=ANSWER_SECONDS)
        self._declared = True

    def _forget(self) -> None:
        self._declared = False


async def _adopt(channel: AbstractChannel, message: AbstractIncomingMessage, queue: str) -> None:
    with answers("adopt a task"):
        change = channel.transaction()
        await change.select(timeout=ANSWER_SECONDS)
        copy = Message(
            message.body,
            headers=message.headers,
            content_type=message.content_type,
            delivery_mode=DeliveryMode.PERSISTENT,
            priority=message.priority,
            message_id=str(uuid.uuid4()),
        )
        await channel.default_exchange.publish(copy, queue, timeout=ANSWER_SECONDS)
        await message.ack()
        await change.commit(timeout=ANSWER_SECONDS)
        await channel.close()  # a channel stays transactional


def _trace_headers(message: AbstractIncomingMessage) -> dict[str, str]:
    """The W3C's, where whoever sent the message is traced."""
    value = message.headers.get("traceparent")
    return {"traceparent": value} if isinstance(value, str) else {}


def _request_of(body: bytes, identity: str) -> GenerationRequest:
    """Raises ``InvalidRequest`` or ``ValueError``; neither quotes the body."""
    try:
        content: Any = json.loads(body)
    except ValueError:
        raise ValueError("Its body is not JSON.") from None
    if not isinstance(content, dict) or "prompt" not in content:
        raise ValueError("Its body is no JSON object with a prompt.")
    count = content.get("count")
    # As its owner reads it: what is missing or no number counts as one.
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        count = 1
    return GenerationRequest(content["prompt"], num_images=count, seed=_seed_of(identity))


def _seed_of(identity: str) -> int:
    """As good as random, and the same at every delivery: a task done twice ends in the same pixels
    even where the second worker has another database."""
    digest = hashlib.sha256(identity.encode()).digest()
    return int.from_bytes(digest) % (1 << _SEED_BITS)
