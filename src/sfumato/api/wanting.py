"""Jobs that live only as long as their caller waits for them, as synchronous contracts have it."""

from __future__ import annotations

import logging

from fastapi import Request

from sfumato.api.connection import ClientGone, while_connected
from sfumato.api.context import ApiContext
from sfumato.api.problems import STATUSES
from sfumato.core.errors import EngineFailure, JobFinished, SfumatoError
from sfumato.core.job import Job

log = logging.getLogger(__name__)

#: How long one look at the job lasts; the caller is waited for as long as it stays.
_LOOK_SECONDS = 60.0
_BY_CODE = {kind.code: kind for kind in STATUSES}


async def wanted_end(context: ApiContext, request: Request, job: Job) -> Job:
    """The job once it has finished. A caller that drops the connection takes it back.

    Raises ``ClientGone``, or ``Stopping`` when the server is about to stop; the job is then kept.
    """
    try:
        return await while_connected(request, end_of(context, job), stopping=context.stopping)
    except ClientGone:
        await take_back(context, job)
        raise


async def take_back(context: ApiContext, job: Job) -> None:
    """Cancel a job whose caller is gone, unless it has finished."""
    try:
        await context.tracking.cancel(job.id)
    except JobFinished:
        return
    log.info("job %s is to stop: its caller dropped the connection", job.id)


async def end_of(context: ApiContext, job: Job) -> Job:
    """The job once it has finished, however long that takes."""
    while not job.status.finished:
        job = await context.tracking.wait(job.id, timeout=_LOOK_SECONDS)
    return job


def failure(job: Job) -> SfumatoError:
    """Why a job failed, as it would have been told at once."""
    assert job.error is not None  # noqa: S101 - a failed job has one
    return _BY_CODE.get(job.error.code, EngineFailure)(job.error.message)
