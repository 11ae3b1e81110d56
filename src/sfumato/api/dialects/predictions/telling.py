"""A webhook's body: the prediction as it was when the event came."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sfumato.api.dialects.predictions.views import logs_of, prediction_of
from sfumato.core.events import Event
from sfumato.core.job import Job, JobStatus
from sfumato.core.webhooks import Telling, WebhookEvent

_UNTIL_THE_END = (WebhookEvent.STARTED, WebhookEvent.PROGRESS)


def render(telling: Telling, job: Job, event: Event, told: WebhookEvent) -> dict[str, Any]:
    """What Replicate sends. The job may have gone on since the event: it is not told ahead."""
    step = event if told is WebhookEvent.PROGRESS else None
    if told in _UNTIL_THE_END and job.status is not JobStatus.RUNNING:
        job = replace(job, status=JobStatus.RUNNING, finished_at=None, error=None, images=())
    return prediction_of(job, base=telling.webhook.base, logs=logs_of(job, step))
