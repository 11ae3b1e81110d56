"""The job behind a prediction: made, found again, and shown."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Header, Path, Request

from sfumato.api.connection import base_of
from sfumato.api.context import ApiContext
from sfumato.api.dialects.predictions.asked import (
    ID_PATTERN,
    MAX_ID,
    key_of,
    read_prediction,
)
from sfumato.api.dialects.predictions.views import data_urls, last_step, logs_of, prediction_of
from sfumato.api.dialects.words import in_their_words
from sfumato.core.errors import InvalidRequest, JobFinished
from sfumato.core.job import Job, JobStatus

#: The service's id of a prediction, or its caller's own.
PredictionId = Annotated[str, Path(max_length=MAX_ID, pattern=ID_PATTERN)]


def refuse_limit(
    cancel_after: Annotated[
        str | None, Header(description="Refused: a caller takes its prediction back itself.")
    ] = None,
) -> None:
    """For routes that make predictions: raises ``InvalidRequest`` for a header that Cog and
    Replicate heed."""
    if cancel_after is not None:
        raise InvalidRequest(
            "A prediction is not taken back by itself.",
            field="Cancel-After",
            accepted="no such header; a POST to the prediction's own path and /cancel",
        )


async def make(
    context: ApiContext, request: Request, *, model: str | None = None, own_id: str | None = None
) -> Job:
    """A queued job for what the body asks; with an id of the caller's own that is known, the job
    that has it.

    Raises what :func:`read_prediction` and ``Submission.submit`` raise.
    """
    asked = await read_prediction(context, request, model=model, own_id=own_id)
    with in_their_words(asked.words):
        return await context.submission.submit(
            asked.request,
            inputs=asked.files,
            idempotency_key=None if asked.id is None else key_of(asked.id),
            webhook=asked.webhook,
        )


async def find(context: ApiContext, named: str) -> Job:
    """Raises ``NotFound``, also for another's."""
    own = await context.tracking.find_by_key(key_of(named))
    return own or await context.tracking.get(named)


async def cancel(context: ApiContext, job: Job) -> Job:
    """The job, taken back unless it has finished: clients take back what may have ended by then."""
    try:
        return await context.tracking.cancel(job.id)
    except JobFinished:
        return await context.tracking.get(job.id)


async def shown(
    context: ApiContext, request: Request, job: Job, *, inline: bool | None = None
) -> dict[str, Any]:
    """The prediction, with how far it is.

    Args:
        inline: whether its pictures are data URLs. None: where the service is not reached by
            https, since Replicate's clients make files of https addresses and data URLs alone.
    """
    return prediction_of(
        job,
        base=base_of(request),
        logs=logs_of(job, await last_step(context.tracking, job)),
        output=await output_of(context, request, job, inline=inline),
    )


async def output_of(
    context: ApiContext, request: Request, job: Job, *, inline: bool | None = None
) -> list[str] | None:
    """The pictures as data URLs; None where their addresses are to be told."""
    if inline is None:
        inline = request.url.scheme != "https"
    if not inline or job.status is not JobStatus.SUCCEEDED:
        return None
    return await data_urls(context.tracking, job)
