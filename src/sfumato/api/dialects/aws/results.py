"""A task's results over HTTP: the documents and pictures that a queue's tasks leave in a bucket.

They are made of the job when they are asked for, under the names that they would have there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import orjson
from pydantic import BaseModel, Field
from starlette.responses import Response

from sfumato.api.context import ApiContext
from sfumato.api.dialects.aws.accepting import STYLE, find
from sfumato.core.errors import NotFound
from sfumato.core.events import Event
from sfumato.core.job import Job, JobStatus
from sfumato.core.tasks import Answer, ParsedTask, answer_to, failure_of
from sfumato.core.webhooks import Telling, WebhookEvent

PATH = "/task-results"
_STATUSES: Mapping[JobStatus, Literal["queued", "running", "completed", "failed"]] = {
    JobStatus.QUEUED: "queued",
    JobStatus.RUNNING: "running",
    JobStatus.SUCCEEDED: "completed",
    JobStatus.FAILED: "failed",
    JobStatus.CANCELED: "failed",
}

__all__ = ["PATH", "STYLE", "TaskReport", "file_of", "location", "render", "report_of"]


class TaskReport(BaseModel):
    """How a task is: v1alpha2's notification, to be asked for."""

    runtime: str
    id: str
    status: Literal["queued", "running", "completed", "failed"]
    result: bool | None = Field(description="Whether there are pictures; null: not yet known.")
    image_url: list[str]
    output_url: str | None = Field(description="The document; null: the task has not ended.")
    context: Any


def location(context: ApiContext, task: ParsedTask, *, base: str) -> str:
    """Where a task's results lie: in the bucket, where there is one, else here."""
    place = context.task_results_url or f"{base}{PATH}"
    return f"{place}/{task.folder}"


async def report_of(context: ApiContext, folder: str, *, base: str) -> TaskReport:
    """Raises ``NotFound``, also for a task of somebody else's."""
    job, answer = await _answer(context, folder)
    ended = job.status.finished
    return TaskReport(
        runtime=answer.task.runtime or job.runtime,
        id=answer.task.id,
        status=_STATUSES[job.status],
        result=job.status is JobStatus.SUCCEEDED if ended else None,
        image_url=_urls(job, answer, base),
        output_url=_url(base, answer.document_key) if ended else None,
        context=answer.task.context,
    )


async def file_of(context: ApiContext, key: str, *, base: str) -> Response:
    """A picture or the document. Raises ``NotFound``."""
    job, answer = await _answer(context, key.rpartition("/")[0])
    for record in job.images:
        if answer.image_key(record.index, _extension(job)) == key:
            picture = await context.tracking.image(job.id, record.index)
            return Response(picture.data, media_type=picture.media_type)
    if job.status.finished and key == answer.document_key:
        return Response(orjson.dumps(_document(job, answer, base)), media_type="application/json")
    raise NotFound(f"The task {answer.task.id} has no result of that name, or not yet.")


def render(telling: Telling, job: Job, event: Event, told: WebhookEvent) -> Mapping[str, Any]:
    """The body of a webhook: what the output topic would be told."""
    del event
    answer, base = answer_to(job), telling.webhook.base
    assert answer is not None  # noqa: S101 - only tasks have webhooks of this style
    running = answer.running()
    if told is WebhookEvent.STARTED and running is not None:
        return running
    return answer.notification(
        _document(job, answer, base),
        _urls(job, answer, base),
        _url(base, answer.document_key),
        result=job.status is JobStatus.SUCCEEDED,
    )


async def _answer(context: ApiContext, folder: str) -> tuple[Job, Answer]:
    job = await find(context, folder)
    answer = None if job is None else answer_to(job)
    if job is None or answer is None:
        raise NotFound("There is no task of yours whose results lie here.")
    return job, answer


def _document(job: Job, answer: Answer, base: str) -> Mapping[str, Any]:
    if job.status is JobStatus.SUCCEEDED:
        return answer.succeeded(_urls(job, answer, base), [record.seed for record in job.images])
    return answer.failed(failure_of(job))


def _urls(job: Job, answer: Answer, base: str) -> list[str]:
    return [_url(base, answer.image_key(record.index, _extension(job))) for record in job.images]


def _extension(job: Job) -> str:
    return job.request.output_format.extension


def _url(base: str, key: str) -> str:
    return f"{base}{PATH}/{key}"
