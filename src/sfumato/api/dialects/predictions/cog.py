"""``/predictions`` and ``/health-check``, as a container made with Cog answers them.

Contract: ``docs/http.md`` of replicate/cog. Where Cog has slots and answers 409 when they are taken,
this has a queue; and a prediction can be asked for as long as its job is kept.
"""

from __future__ import annotations

import platform
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from sfumato import __version__
from sfumato.api import events
from sfumato.api.connection import ClientGone, while_connected
from sfumato.api.context import ApiContext, Context, Services
from sfumato.api.dialects.predictions import streams
from sfumato.api.dialects.predictions.asked import ID_NOTE
from sfumato.api.dialects.predictions.document import BODY, PROBLEMS, answer
from sfumato.api.dialects.predictions.jobs import (
    PredictionId,
    cancel,
    find,
    make,
    refuse_limit,
    shown,
)
from sfumato.api.health import not_ready
from sfumato.api.native import preferred_wait
from sfumato.api.wanting import end_of, wanted_end
from sfumato.core.job import Job

router = APIRouter(tags=["dialects"], responses=PROBLEMS)
_MADE: dict[int | str, dict[str, Any]] = {
    200: {
        **answer("The prediction has ended: succeeded, failed or canceled."),
        "content": {
            **answer("")["content"],
            **streams.ANSWER["content"],
        },
    },
    202: answer("The caller asked not to wait, or to wait no longer."),
}
_Prefer = Annotated[
    list[str] | None,
    Header(description="`respond-async` answers at once; `wait=N` within N seconds."),
]
_Accept = Annotated[
    str, Header(description="`text/event-stream`: what happens, as server-sent events.")
]


class Setup(BaseModel):
    status: Literal["starting", "succeeded"]
    logs: str = Field(description="What is not ready yet, a line each.")


class HealthCheck(BaseModel):
    """What Cog's own fields can say of this service: it has a queue, so it is never BUSY."""

    status: Literal["STARTING", "READY"]
    setup: Setup
    version: dict[str, str]


@router.post(
    "/predictions",
    openapi_extra=BODY,
    response_class=JSONResponse,
    responses=_MADE,
    dependencies=[Depends(refuse_limit)],
)
async def create_prediction(
    context: Context, request: Request, prefer: _Prefer = None, accept: _Accept = ""
) -> Response:
    """Draw, and answer the prediction once it has ended; its pictures are data URLs.

    A caller that hangs up takes the prediction back, unless it has named it by an `id` and so can
    ask for it again.
    """
    return await _predicted(context, request, await make(context, request), prefer, accept)


@router.put(
    "/predictions/{prediction_id}",
    openapi_extra=BODY,
    response_class=JSONResponse,
    responses=_MADE,
    dependencies=[Depends(refuse_limit)],
)
async def put_prediction(
    context: Context,
    request: Request,
    prediction_id: PredictionId,
    prefer: _Prefer = None,
    accept: _Accept = "",
) -> Response:
    """As `POST /predictions`; sent again with the same body, it answers the same prediction."""
    job = await make(context, request, own_id=prediction_id)
    return await _predicted(context, request, job, prefer, accept)


@router.get(
    "/predictions/{prediction_id}",
    response_class=JSONResponse,
    responses={200: answer("The prediction as it is now.")},
)
async def get_prediction(
    context: Context, request: Request, prediction_id: PredictionId
) -> Response:
    """A prediction by the service's id of it, or by its caller's own."""
    job = await find(context, prediction_id)
    return JSONResponse(await shown(context, request, job, inline=True))


@router.post("/predictions/{prediction_id}/cancel")
async def cancel_prediction(context: Context, prediction_id: PredictionId) -> dict[str, str]:
    """Take a prediction back; one that has ended stays as it is. The answer is empty, as Cog's."""
    await cancel(context, await find(context, prediction_id))
    return {}


@router.get("/health-check")
async def health_check(services: Services) -> HealthCheck:
    """Whether predictions would be taken now. Always 200: the `status` says it."""
    waiting = await not_ready(services)
    return HealthCheck(
        status="STARTING" if waiting else "READY",
        setup=Setup(status="starting" if waiting else "succeeded", logs="\n".join(waiting)),
        version={"sfumato": __version__, "python": platform.python_version()},
    )


async def _predicted(
    context: ApiContext, request: Request, job: Job, prefer: list[str] | None, accept: str
) -> Response:
    show = partial(shown, context, request, inline=True)
    if events.MEDIA_TYPE in accept.lower():
        return streams.answer(context, streams.cog_frames(context, job, show))
    try:
        job = await _waited(context, request, job, prefer or [])
    except ClientGone:
        return Response(status_code=499)  # nobody reads it
    return JSONResponse(await show(job), 200 if job.status.finished else 202)


async def _waited(context: ApiContext, request: Request, job: Job, prefer: list[str]) -> Job:
    preferences = ",".join(prefer).lower().split(",")
    if "respond-async" in (each.strip() for each in preferences):
        return job
    seconds = preferred_wait(prefer)
    if seconds is not None:
        wait = context.tracking.wait(job.id, timeout=seconds)
        return await while_connected(request, wait, stopping=context.stopping)
    if ID_NOTE in job.request.metadata:
        return await while_connected(request, end_of(context, job), stopping=context.stopping)
    return await wanted_end(context, request, job)
