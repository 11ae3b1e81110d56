"""Tells callers' own servers what becomes of their jobs, again and again until they have heard.

The job store's numbered events are the outbox: how far each job's webhook is, is all that is kept
beside them. So nothing is lost with this process, and what it has told but not noted is told once
more, under the same id.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import logging
import random
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from standardwebhooks.webhooks import Webhook as Signer

from sfumato.core.errors import InvalidRequest, NotFound, SfumatoError, Unavailable
from sfumato.core.events import Event
from sfumato.core.job import Job
from sfumato.core.ports import Clock, JobStore, WebClient, WebhookStore
from sfumato.core.webhooks import (
    PROGRESS_INTERVAL,
    Telling,
    WebhookDelivery,
    WebhookEvent,
    WebhookState,
    told_as,
)
from sfumato.services.watching import JobWatcher

log = logging.getLogger(__name__)

#: Seconds before each new try; the last is repeated.
_DELAYS = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0, 14_400.0)
#: Seconds of failing after which a webhook is given up.
_PATIENCE = 86_400.0
#: The answer of a server that wants to hear no more.
_GONE = 410
_HELD_SECONDS = 120.0
#: Seconds between two looks at what there is to tell, at least; and at most, whatever is heard.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0
_FORGET_EVERY = 3600.0

#: Makes a body's data of a job and what happened to it.
Render = Callable[[Telling, Job, Event, WebhookEvent], Mapping[str, Any]]
#: Tells of it elsewhere than at an address; raises ``Unavailable`` to be asked again.
Deliver = Callable[[Job, WebhookEvent], Awaitable[None]]


class WebhookSecrets:
    """What bodies are signed with: one secret for each key, and one for callers without a key.

    All derive from the service's own, so that none of them is kept anywhere.
    """

    def __init__(self, hooks: WebhookStore) -> None:
        self._hooks = hooks
        self._own: bytes | None = None

    async def of(self, owner: str | None) -> bytes:
        if self._own is None:
            self._own = await self._hooks.secret(secrets.token_bytes(32))
        return hmac.digest(
            self._own, f"webhooks of {owner or 'everybody'}".encode(), hashlib.sha256
        )

    async def shown(self, owner: str | None) -> str:
        """As the Standard Webhooks write it: ``whsec_`` and base64."""
        return "whsec_" + base64.b64encode(await self.of(owner)).decode()


class WebhookTeller:
    """Runs beside the API. Several may: each telling is one's at a time.

    Args:
        render: makes what is posted to a webhook's address, where it has one.
        deliver: what is told before that, by the webhooks' style.
    """

    def __init__(
        self,
        *,
        hooks: WebhookStore,
        store: JobStore,
        web: WebClient,
        watcher: JobWatcher,
        clock: Clock,
        render: Render,
        deliver: Mapping[str, Deliver] | None = None,
    ) -> None:
        self._hooks = hooks
        self._store = store
        self._web = web
        self._watcher = watcher
        self._clock = clock
        self._render = render
        self._deliver_by_style = dict(deliver or {})
        self._secrets = WebhookSecrets(hooks)
        self._progress_told: dict[str, float] = {}
        self._forgot_at = -_FORGET_EVERY

    async def run(self) -> None:
        """For as long as the service runs."""
        with self._watcher.subscribe_all(progress=True) as changed:
            while True:
                changed.clear()
                try:
                    found = await self._tell_due()
                    pause = _SHORTEST_PAUSE if found else await self._pause()
                except Unavailable as error:
                    log.warning("webhooks wait: %s", error)
                    pause = _DELAYS[0]
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await changed.wait()
                await asyncio.sleep(_SHORTEST_PAUSE)

    async def _pause(self) -> float:
        due = await self._hooks.next_due()
        if due is None:
            return _LONGEST_PAUSE
        return min(_LONGEST_PAUSE, max(_SHORTEST_PAUSE, due - self._clock.now()))

    async def _tell_due(self) -> int:
        now = self._clock.now()
        if self._clock.monotonic() - self._forgot_at >= _FORGET_EVERY:
            self._forgot_at = self._clock.monotonic()
            await self._hooks.forget(before=now - _PATIENCE)
        due = await self._hooks.claim(now=now, until=now + _HELD_SECONDS)
        async with asyncio.TaskGroup() as tasks:
            for telling in due:
                tasks.create_task(self._tell(telling))
        return len(due)

    async def _tell(self, telling: Telling) -> None:
        try:
            job = await self._store.get(telling.job_id)
            events = await self._store.events(telling.job_id, after=telling.after)
            await self._tell_events(telling, job, events)
        except NotFound:  # retention took the job between two looks
            await self._hooks.save(replace(telling, state=WebhookState.DONE))
        except SfumatoError as error:
            log.warning("the webhook of job %s waits: %s", telling.job_id, error)

    async def _tell_events(self, telling: Telling, job: Job, events: Sequence[Event]) -> None:
        deliveries = []
        at_progress = max(
            (e.number for e in events if told_as(e.kind) is WebhookEvent.PROGRESS), default=0
        )
        telling = replace(telling, next_at=0.0)
        for event in events:
            told = told_as(event.kind)
            passed = told is WebhookEvent.PROGRESS and event.number < at_progress
            if told is not None and told in telling.webhook.events and not passed:
                wait = self._too_soon(job.id, told)
                if wait > 0 and event is events[-1]:
                    telling = replace(telling, next_at=self._clock.now() + wait)
                    break
                if wait <= 0:
                    delivery = await self._deliver(telling, job, event, told)
                    deliveries.append(delivery)
                    if not delivery.succeeded:
                        telling = self._failed(telling, delivery)
                        break
                    telling = replace(telling, tries=0, failing_since=None)
            state = WebhookState.DONE if event.kind.terminal else telling.state
            telling = replace(telling, after=event.number, state=state)
        if telling.state is not WebhookState.OPEN:
            self._progress_told.pop(job.id, None)
        await self._hooks.save(telling, deliveries)

    def _too_soon(self, job_id: str, told: WebhookEvent) -> float:
        """For how many seconds progress must not be told again."""
        if told is not WebhookEvent.PROGRESS:
            return 0.0
        now = self._clock.monotonic()
        wait = self._progress_told.get(job_id, -PROGRESS_INTERVAL) + PROGRESS_INTERVAL - now
        if wait <= 0:
            self._progress_told[job_id] = now
        return wait

    async def _deliver(
        self, telling: Telling, job: Job, event: Event, told: WebhookEvent
    ) -> WebhookDelivery:
        now = self._clock.now()
        status, error = None, None
        try:
            elsewhere = self._deliver_by_style.get(telling.webhook.style)
            if elsewhere is not None:
                await elsewhere(job, told)
            if telling.webhook.url:
                status = await self._post(telling, job, event, told, now=now)
        except (Unavailable, InvalidRequest) as refusal:
            error = refusal.message
        return WebhookDelivery(job.id, event.number, told, now, status, error)

    async def _post(
        self, telling: Telling, job: Job, event: Event, told: WebhookEvent, *, now: float
    ) -> int:
        """The status of the answer. Raises ``Unavailable`` or ``InvalidRequest``."""
        message = f"msg_{job.id}_{event.number}"
        body = json.dumps(self._render(telling, job, event, told), ensure_ascii=False)
        signer = Signer(await self._secrets.of(telling.owner))
        headers = {
            "Content-Type": "application/json",
            "webhook-id": message,
            "webhook-timestamp": str(int(now)),
            "webhook-signature": signer.sign(message, datetime.fromtimestamp(int(now), UTC), body),
        }
        return await self._web.post(telling.webhook.url, body.encode(), headers=headers)

    def _failed(self, telling: Telling, delivery: WebhookDelivery) -> Telling:
        since = telling.failing_since or delivery.at
        if delivery.status == _GONE or delivery.at - since >= _PATIENCE:
            log.info("the webhook of job %s is given up", telling.job_id)
            return replace(telling, state=WebhookState.GIVEN_UP, failing_since=since)
        delay = _DELAYS[min(telling.tries, len(_DELAYS) - 1)]
        delay *= random.uniform(0.9, 1.1)  # noqa: S311 - so that not all come back together
        return replace(
            telling, tries=telling.tries + 1, failing_since=since, next_at=delivery.at + delay
        )
