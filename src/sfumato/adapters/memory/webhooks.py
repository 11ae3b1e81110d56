"""Webhooks in dictionaries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from sfumato.adapters.memory.job_store import MemoryJobStore
from sfumato.core.errors import NotFound
from sfumato.core.webhooks import Telling, WebhookDelivery, WebhookState


class MemoryWebhookStore:
    """The ``WebhookStore`` port beside a job store in memory."""

    def __init__(self, jobs: MemoryJobStore) -> None:
        self._jobs = jobs
        self._tellings: dict[str, Telling] = {}
        self._deliveries: dict[str, list[WebhookDelivery]] = defaultdict(list)
        self._secret: bytes | None = None

    async def add(self, telling: Telling) -> None:
        self._tellings[telling.job_id] = telling

    async def remove(self, job_id: str) -> None:
        self._tellings.pop(job_id, None)

    async def get(self, job_id: str) -> Telling:
        try:
            return self._tellings[job_id]
        except KeyError:
            raise NotFound(f"Job {job_id!r} has no webhook.") from None

    async def claim(self, *, now: float, until: float, limit: int = 20) -> Sequence[Telling]:
        due = [telling for telling in self._open() if telling.next_at <= now]
        claimed: list[Telling] = []
        for telling in sorted(due, key=lambda telling: telling.next_at):
            if len(claimed) < limit and self._jobs.last_event(telling.job_id) > telling.after:
                held = self._tellings[telling.job_id] = replace(telling, next_at=until)
                claimed.append(held)
        return claimed

    async def open(self) -> int:
        last = self._jobs.last_event
        return sum(last(telling.job_id) > telling.after for telling in self._open())

    async def next_due(self) -> float | None:
        return min((telling.next_at for telling in self._open() if telling.next_at), default=None)

    async def save(self, telling: Telling, deliveries: Sequence[WebhookDelivery] = ()) -> None:
        if telling.job_id in self._tellings:
            self._tellings[telling.job_id] = telling
            self._deliveries[telling.job_id] += deliveries

    async def deliveries(self, job_id: str, *, limit: int = 100) -> Sequence[WebhookDelivery]:
        return self._deliveries[job_id][::-1][:limit]

    async def forget(self, *, before: float) -> int:
        old = [
            telling.job_id
            for telling in self._tellings.values()
            if telling.created_at < before and not self._jobs.last_event(telling.job_id)
        ]
        for job_id in old:
            del self._tellings[job_id]
            self._deliveries.pop(job_id, None)
        return len(old)

    async def secret(self, fresh: bytes) -> bytes:
        if self._secret is None:
            self._secret = fresh
        return self._secret

    def _open(self) -> list[Telling]:
        return [each for each in self._tellings.values() if each.state is WebhookState.OPEN]
