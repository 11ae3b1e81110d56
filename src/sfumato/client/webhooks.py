"""How a job's webhook fares, as the service tells it."""

from __future__ import annotations

from datetime import datetime

from sfumato.client.answer import Answer


class Delivery(Answer):
    """One try to tell something.

    Attributes:
        number: of the job's event.
        status: of the answer; None: there was none, and ``error`` says why.
    """

    number: int
    event: str
    at: datetime
    status: int | None = None
    error: str | None = None


class WebhookReport(Answer):
    """How far a job's webhook is.

    Attributes:
        state: ``open``: there is or will be something to tell; ``done``: the job's end was told;
            ``given_up``: nobody took it for a day, or its server answered 410.
        told_to: number of the last event that was told.
        next_try_at: None: at once, when there is something.
        deliveries: what was tried, newest first.
    """

    events: tuple[str, ...]
    state: str
    told_to: int
    next_try_at: datetime | None = None
    deliveries: tuple[Delivery, ...] = ()


class WebhookSecret(Answer):
    secret: str
