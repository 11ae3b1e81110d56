"""Results of tasks that came over HTTP, put where those of tasks from a queue go."""

from __future__ import annotations

from sfumato.core.job import Job
from sfumato.core.ports import ImageStore, Task, TaskSink
from sfumato.core.tasks import answer_to, failure_of
from sfumato.core.webhooks import WebhookEvent


class TaskResults:
    """Takes what becomes of such a task's job. The same again writes the same objects.

    Args:
        images: where the jobs' pictures are.
        tell_started: also tell the sink when a worker begins to draw.
    """

    def __init__(self, *, images: ImageStore, sink: TaskSink, tell_started: bool = False) -> None:
        self._images = images
        self._sink = sink
        self._tell_started = tell_started

    async def __call__(self, job: Job, told: WebhookEvent) -> None:
        """Raises ``Unavailable``, or ``NotFound`` where the pictures are gone."""
        answer = answer_to(job)
        if answer is None:
            return
        task = Task(job.id, job.request, reply={"answer": answer})
        if told is WebhookEvent.SUCCEEDED:
            images = [await self._images.get(record.key) for record in job.images]
            await self._sink.succeeded(task, job, images)
        elif told in (WebhookEvent.FAILED, WebhookEvent.CANCELED):
            await self._sink.failed(task, failure_of(job))
        elif told is WebhookEvent.STARTED and self._tell_started:
            await self._sink.started(task)
