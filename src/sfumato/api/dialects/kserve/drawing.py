"""Pictures for one call: its jobs live as long as its caller waits, and it gets all or none."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import Request

from sfumato.api.connection import ClientGone, while_connected
from sfumato.api.context import ApiContext
from sfumato.api.inputs import Asked, asked_of
from sfumato.api.problems import Stopping
from sfumato.api.requests import JobRequest
from sfumato.api.wanting import end_of, failure, take_back
from sfumato.core.errors import Conflict, InvalidRequest, SfumatoError
from sfumato.core.job import Job, JobStatus
from sfumato.core.request import MAX_IMAGES


async def drawn(
    context: ApiContext, request: Request, bodies: Sequence[JobRequest]
) -> list[tuple[Job, list[bytes]]]:
    """A job for each of the bodies, succeeded, and the files of its pictures.

    Raises ``ClientGone``, what :func:`asked_of` and ``Submission.submit`` raise, or why a job
    did not succeed; the other jobs are taken back then.
    """
    if not 1 <= len(bodies) <= MAX_IMAGES:
        raise InvalidRequest(
            f"The request asks for {len(bodies)} jobs.", accepted=f"1 to {MAX_IMAGES}"
        )
    asked = [await asked_of(body, {}, context.tracking, context.web) for body in bodies]
    jobs: list[Job] = []
    try:
        for each in asked:
            jobs.append(await _submitted(context, each))  # noqa: PERF401 - it may end half way
        jobs = await while_connected(request, _succeeded(context, jobs), stopping=context.stopping)
    except Stopping:
        raise  # another process goes on with them
    except (ClientGone, SfumatoError):
        for job in jobs:
            await take_back(context, job)
        raise
    return [(job, await _pictures(context, job)) for job in jobs]


async def _submitted(context: ApiContext, asked: Asked) -> Job:
    return await context.submission.submit(asked.request, inputs=asked.files, webhook=asked.webhook)


async def _succeeded(context: ApiContext, jobs: Sequence[Job]) -> list[Job]:
    """The jobs at their end. Raises at the first that has no pictures."""
    ended = []
    for job in jobs:
        end = await end_of(context, job)
        if end.status is JobStatus.CANCELED:
            raise Conflict(f"Job {job.id} was canceled.")
        if end.status is JobStatus.FAILED:
            raise failure(end)
        ended.append(end)
    return ended


async def _pictures(context: ApiContext, job: Job) -> list[bytes]:
    return [(await context.tracking.image(job.id, image.index)).data for image in job.images]
