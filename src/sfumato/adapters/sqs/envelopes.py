"""Messages as SNS hands them on: raw, or in an envelope of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sfumato.core.tasks import read_object

_IDENTITY = re.compile(r"[A-Za-z0-9-]{1,100}")
#: In seconds since the epoch; what lies beyond is no time at which anything was sent.
_FAR_FUTURE = 10**10


@dataclass(frozen=True, slots=True)
class Opened:
    """What was sent: its text and attributes, and what SNS says of it where it was in an envelope:
    its id, and when it was sent in seconds since the epoch."""

    text: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    id: str | None = None
    sent_at: float | None = None


def open_envelope(body: str, attributes: Mapping[str, str]) -> Opened:
    """Take a message out of SNS's envelope, if it is in one.

    Args:
        attributes: of the message itself; those in an envelope go before them.
    """
    envelope = read_object(body)
    if envelope is None or envelope.get("Type") != "Notification":
        return Opened(body, attributes)
    text = envelope.get("Message")
    if not isinstance(text, str):
        return Opened(body, attributes)
    given = envelope.get("MessageAttributes")
    inside = {
        name: attribute["Value"]
        for name, attribute in (given.items() if isinstance(given, dict) else ())
        if isinstance(attribute, dict) and isinstance(attribute.get("Value"), str)
    }
    identity = envelope.get("MessageId")
    return Opened(
        text,
        {**attributes, **inside},
        identity if isinstance(identity, str) and _IDENTITY.fullmatch(identity) else None,
        _moment(envelope.get("Timestamp")),
    )


def _moment(text: Any) -> float | None:
    try:
        moment = datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    return moment if 0 <= moment < _FAR_FUTURE else None
