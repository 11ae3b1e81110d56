"""One SQS queue: send, take, hide, delete. It is made anew should it vanish."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sfumato.adapters.sqs.client import AwsClients, Missing
from sfumato.adapters.sqs.topology import QueueUrls
from sfumato.core.errors import StartupRefused, Unavailable

#: What SQS takes at most, in seconds: for a delay, and for hiding a message since it was received.
LONGEST_DELAY = 900
LONGEST_VISIBILITY = 43_200

_TRACE_HEADER = "AWSTraceHeader"
#: Most messages of one request.
BATCH = 10


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it was received.

    Attributes:
        sent_at: seconds since the epoch, the same at every delivery.
        attributes: those of text alone.
        trace_header: X-Ray's, as SQS passes it on; None: whoever sent it is not traced.
    """

    id: str
    body: str
    handle: str
    deliveries: int
    sent_at: float
    attributes: Mapping[str, str] = field(default_factory=dict)
    trace_header: str | None = None


class Channel:
    """A queue by its name.

    Args:
        ensure: makes the queue where it is missing, and tells where it is.
    """

    def __init__(self, clients: AwsClients, ensure: Callable[[], Awaitable[QueueUrls]]) -> None:
        self._clients = clients
        self._ensure = ensure
        self._urls: QueueUrls | None = None
        self._ensuring = asyncio.Lock()

    async def open(self) -> QueueUrls:
        """Raises ``StartupRefused`` or ``Unavailable``."""
        async with self._ensuring:
            if self._urls is None:
                self._urls = await self._ensure()
            return self._urls

    async def send(
        self, body: str, *, delay: float = 0.0, attributes: Mapping[str, str] | None = None
    ) -> None:
        await self._call(
            "SendMessage",
            MessageBody=body,
            DelaySeconds=min(LONGEST_DELAY, math.ceil(delay)),
            MessageAttributes=_typed(attributes),
        )

    async def take(self, *, count: int, visibility: int, wait: int) -> list[Message]:
        """Receive up to ``count`` messages; wait for the first for ``wait`` seconds."""
        return await self._take(dead=False, count=count, visibility=visibility, wait=wait)

    async def take_dead(self, *, visibility: int, wait: int) -> list[Message]:
        return await self._take(dead=True, count=BATCH, visibility=visibility, wait=wait)

    async def hide(self, handle: str, seconds: int, *, dead: bool = False) -> None:
        """Raises ``Stale``, or ``Rejected`` when it would be hidden for too long in all."""
        await self._call(
            "ChangeMessageVisibility", dead=dead, ReceiptHandle=handle, VisibilityTimeout=seconds
        )

    async def delete(self, handle: str, *, dead: bool = False) -> None:
        """Raises ``Stale`` where SQS tells; it may also say nothing and keep the message."""
        await self._call("DeleteMessage", dead=dead, ReceiptHandle=handle)

    async def set_aside(self, message: Message) -> None:
        """Move a message to the dead-letter queue, without waiting for its last delivery."""
        await self._call(
            "SendMessage",
            dead=True,
            MessageBody=message.body,
            MessageAttributes=_typed(message.attributes),
        )
        await self.delete(message.handle)

    async def counts(self, *, dead: bool = False) -> tuple[int, int]:
        """How many messages can be received, and how many are in flight or delayed."""
        names = [
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        ]
        answer = await self._call("GetQueueAttributes", dead=dead, AttributeNames=names)
        visible, *hidden = (int(answer["Attributes"][name]) for name in names)
        return visible, sum(hidden)

    async def _take(self, *, dead: bool, count: int, visibility: int, wait: int) -> list[Message]:
        answer = await self._call(
            "ReceiveMessage",
            dead=dead,
            MaxNumberOfMessages=count,
            VisibilityTimeout=visibility,
            WaitTimeSeconds=wait,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=[
                "ApproximateReceiveCount",
                "SentTimestamp",
                _TRACE_HEADER,
            ],
        )
        return [_message(received) for received in answer.get("Messages", ())]

    async def _call(
        self, operation: str, *, dead: bool = False, **parameters: Any
    ) -> dict[str, Any]:
        try:
            return await self._attempt(operation, dead=dead, parameters=parameters)
        except Missing:
            # Somebody deleted it, or it is a second old: SQS does not know it everywhere at once.
            self._urls = None
            return await self._attempt(operation, dead=dead, parameters=parameters)

    async def _attempt(
        self, operation: str, *, dead: bool, parameters: Mapping[str, Any]
    ) -> dict[str, Any]:
        try:
            urls = self._urls or await self.open()
        except StartupRefused as refusal:
            raise Unavailable(refusal.message) from None
        url = urls.dead_url if dead else urls.url
        return await self._clients.sqs(operation, QueueUrl=url, **parameters)


def _typed(attributes: Mapping[str, str] | None) -> dict[str, Any]:
    return {
        name: {"DataType": "String", "StringValue": value}
        for name, value in (attributes or {}).items()
    }


def _message(received: Mapping[str, Any]) -> Message:
    attributes = received.get("MessageAttributes", {})
    return Message(
        id=received["MessageId"],
        body=received["Body"],
        handle=received["ReceiptHandle"],
        deliveries=int(received["Attributes"]["ApproximateReceiveCount"]),
        sent_at=int(received["Attributes"]["SentTimestamp"]) / 1000,
        attributes={
            name: value["StringValue"]
            for name, value in attributes.items()
            if "StringValue" in value
        },
        trace_header=received["Attributes"].get(_TRACE_HEADER),
    )
