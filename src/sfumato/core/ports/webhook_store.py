"""How far each job's webhook is. The events themselves are the job store's, which makes it the
outbox: what was not told yet is what has a higher number than the last that was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sfumato.core.webhooks import Telling, WebhookDelivery


class WebhookStore(Protocol):
    async def add(self, telling: Telling) -> None:
        """Before its job is made, so that no job is without its webhook."""
        ...

    async def remove(self, job_id: str) -> None:
        """Of a job that was not made after all; harmless where there is none."""
        ...

    async def get(self, job_id: str) -> Telling:
        """Raises ``NotFound``."""
        ...

    async def claim(self, *, now: float, until: float, limit: int = 20) -> Sequence[Telling]:
        """Open ones that are due and whose job has events that were not told. They are nobody
        else's before ``until``."""
        ...

    async def open(self) -> int:
        """How many have events to tell that were not told, and were not given up."""
        ...

    async def next_due(self) -> float | None:
        """When the first that was put off is due; None: none was."""
        ...

    async def save(self, telling: Telling, deliveries: Sequence[WebhookDelivery] = ()) -> None:
        """Keep how far it is now, and what was tried."""
        ...

    async def deliveries(self, job_id: str, *, limit: int = 100) -> Sequence[WebhookDelivery]:
        """What was tried, newest first."""
        ...

    async def forget(self, *, before: float) -> int:
        """Drop those made earlier whose job is gone, or never was; how many there were."""
        ...

    async def secret(self, fresh: bytes) -> bytes:
        """The secret that all signatures derive from: the first that was ever given here."""
        ...
