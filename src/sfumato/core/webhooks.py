"""Telling a caller's own server what becomes of a job."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from sfumato.core.errors import InvalidRequest
from sfumato.core.events import EventKind


class WebhookEvent(StrEnum):
    """What can be told."""

    STARTED = "started"
    IMAGE = "image"
    PROGRESS = "progress"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


_TOLD = {
    EventKind.STARTED: WebhookEvent.STARTED,
    EventKind.IMAGE: WebhookEvent.IMAGE,
    EventKind.STEP: WebhookEvent.PROGRESS,
    EventKind.SUCCEEDED: WebhookEvent.SUCCEEDED,
    EventKind.FAILED: WebhookEvent.FAILED,
    EventKind.CANCELED: WebhookEvent.CANCELED,
}
#: What is told where a caller does not choose: everything but the steps.
DEFAULT_EVENTS = frozenset(WebhookEvent) - {WebhookEvent.PROGRESS}
#: Seconds between two tellings of one job's progress, at least.
PROGRESS_INTERVAL = 0.5


def told_as(kind: EventKind) -> WebhookEvent | None:
    """How an event is told; None: not at all."""
    return _TOLD.get(kind)


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where to tell, and what.

    Attributes:
        url: empty where it is told elsewhere, by its style, and not over HTTP.
        style: whose form the body has; a dialect's own, or ``native``.
        base: address at which the caller reached the service, where the body names addresses of
            it in full.
    """

    url: str
    events: frozenset[WebhookEvent] = DEFAULT_EVENTS
    style: str = "native"
    base: str = ""

    @classmethod
    def named(
        cls, url: str, events: Iterable[str] | None = None, *, style: str = "native"
    ) -> Webhook:
        """Raises ``InvalidRequest`` for an event that there is not."""
        if events is None:
            return cls(url, style=style)
        try:
            return cls(url, frozenset(map(WebhookEvent, events)), style)
        except ValueError:
            raise InvalidRequest(
                "webhook.events names an event that there is not.",
                field="webhook.events",
                accepted=[event.value for event in WebhookEvent],
            ) from None

    def as_dict(self) -> dict[str, Any]:
        known = {"url": self.url, "events": sorted(self.events), "style": self.style}
        return {**known, "base": self.base} if self.base else known

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Webhook:
        named = cls.named(data["url"], data["events"], style=data["style"])
        return replace(named, base=data.get("base", ""))


class WebhookState(StrEnum):
    OPEN = "open"  #: there is, or will be, something to tell
    DONE = "done"  #: the job's end was told
    GIVEN_UP = "given_up"  #: nobody took it for a day, or the server asked for no more


@dataclass(frozen=True, slots=True)
class Telling:
    """How far a job's webhook is.

    Attributes:
        owner: whose key signs; None: nobody's.
        after: number of the last event that was told, or passed over.
        tries: that failed since.
        failing_since: when the first of these was; None: none has.
        next_at: not before then.
    """

    job_id: str
    webhook: Webhook
    owner: str | None
    created_at: float
    state: WebhookState = WebhookState.OPEN
    after: int = 0
    tries: int = 0
    failing_since: float | None = None
    next_at: float = 0.0


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """One try. ``status``: of the HTTP answer; None: there was none, and ``error`` says why, unless
    it was told elsewhere than over HTTP."""

    job_id: str
    number: int
    event: WebhookEvent
    at: float
    status: int | None = None
    error: str | None = None

    @property
    def succeeded(self) -> bool:
        return self.error is None and (self.status is None or 200 <= self.status < 300)
