"""A ring as a message: the body says which job, the properties how urgent."""

from __future__ import annotations

import json
from typing import Any

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractIncomingMessage

from sfumato.core.ports import Ring

#: Priorities of a quorum queue: 0 to 31. Ours are kept whole in a header.
_MIDDLE_PRIORITY, _HIGHEST_PRIORITY = 16, 31
_PRIORITY = "sfumato-priority"
#: Deliveries of the ring in messages before this one, as a delay makes a new message.
_EARLIER_DELIVERIES = "sfumato-deliveries"
#: Deliveries without success before this one, as the broker counts them.
_BROKERS_COUNT = "x-delivery-count"


def message_of(ring: Ring, *, earlier_deliveries: int = 0) -> Message:
    body = {
        "job_id": ring.job_id,
        "runtime": ring.runtime,
        "attempt": ring.attempt,
        "traceparent": ring.traceparent,
    }
    headers: dict[str, Any] = {_PRIORITY: ring.priority}
    if earlier_deliveries:
        headers[_EARLIER_DELIVERIES] = earlier_deliveries
    return Message(
        json.dumps(body, separators=(",", ":")).encode(),
        headers=headers,
        content_type="application/json",
        delivery_mode=DeliveryMode.PERSISTENT,
        priority=min(_HIGHEST_PRIORITY, max(0, _MIDDLE_PRIORITY + ring.priority)),
    )


def ring_of(message: AbstractIncomingMessage) -> Ring:
    """Raises ``ValueError`` with the reason, and nothing of the content, when it is no ring."""
    try:
        body = json.loads(message.body)
    except ValueError:
        raise ValueError("its body is not JSON") from None
    if not isinstance(body, dict):
        raise ValueError("its body is no JSON object")  # noqa: TRY004 - bad content, not a bad call
    job_id, runtime = body.get("job_id"), body.get("runtime")
    attempt, traceparent = body.get("attempt", 0), body.get("traceparent")
    if not (isinstance(job_id, str) and isinstance(runtime, str) and job_id and runtime):
        raise ValueError("it names no job or no runtime")
    if type(attempt) is not int or not isinstance(traceparent, str | None):
        raise ValueError("its attempt or its traceparent has another type")
    return Ring(job_id, runtime, attempt, _number(message, _PRIORITY), traceparent)


def deliveries_of(message: AbstractIncomingMessage) -> int:
    """How often the ring has been received, this time included."""
    return _number(message, _EARLIER_DELIVERIES) + _number(message, _BROKERS_COUNT) + 1


def copy_of(message: AbstractIncomingMessage) -> Message:
    """The same content, to be published anew."""
    return Message(
        message.body,
        headers={key: value for key, value in message.headers.items() if key != _BROKERS_COUNT},
        content_type=message.content_type,
        delivery_mode=DeliveryMode.PERSISTENT,
        message_id=message.message_id,
    )


def _number(message: AbstractIncomingMessage, header: str) -> int:
    value = message.headers.get(header, 0)
    return value if isinstance(value, int) else 0
