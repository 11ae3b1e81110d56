"""``/v1/predictions`` and what Replicate's clients ask for around it.

Contract: Replicate's HTTP API, as its own clients use it (replicate/replicate-python).
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field

from sfumato.api import events
from sfumato.api.connection import ClientGone, base_of, while_connected
from sfumato.api.context import ApiContext, Context
from sfumato.api.dialects.predictions import streams
from sfumato.api.dialects.predictions.document import BODY, PREDICTIONS, PROBLEMS, answer
from sfumato.api.dialects.predictions.jobs import (
    PredictionId,
    cancel,
    find,
    make,
    refuse_limit,
    shown,
)
from sfumato.api.dialects.predictions.views import STATUSES, prediction_of
from sfumato.api.native import preferred_wait
from sfumato.core.job import Job, JobStatus

router = APIRouter(prefix="/v1", tags=["dialects"], responses=PROBLEMS)
#: For how long a plain ``Prefer: wait`` waits: the most that Replicate does.
_WAIT_SECONDS = 60
_PAGE = 100
_MADE: dict[int | str, dict[str, Any]] = {
    201: answer("The prediction was made; it has ended where the caller waited for that."),
    202: answer("The prediction has not ended within the time that the caller waited."),
}
_Prefer = Annotated[
    list[str] | None,
    Header(description="`wait` or `wait=N` waits for the end, up to 60 or N seconds."),
]


class Secret(BaseModel):
    key: str = Field(description="As the Standard Webhooks' libraries take it: whsec_….")


@router.post(
    "/predictions",
    status_code=201,
    openapi_extra=BODY,
    response_class=JSONResponse,
    responses=_MADE,
    dependencies=[Depends(refuse_limit)],
)
async def create_prediction(
    context: Context,
    request: Request,
    prefer: _Prefer = None,
) -> Response:
    """Queue a prediction; `version` or `model` names what draws it."""
    return await _made(context, request, await make(context, request), prefer or [])


@router.post(
    "/models/{owner}/{name}/predictions",
    status_code=201,
    openapi_extra=BODY,
    response_class=JSONResponse,
    responses=_MADE,
    dependencies=[Depends(refuse_limit)],
)
async def create_prediction_of_model(
    context: Context,
    request: Request,
    owner: str,
    name: str,
    *,
    prefer: _Prefer = None,
) -> Response:
    """Queue a prediction of the model that the path names, whoever its owner."""
    job = await make(context, request, model=f"{owner}/{name}")
    return await _made(context, request, job, prefer or [])


@router.get(
    "/predictions",
    response_class=JSONResponse,
    responses={200: {"description": "Newest first.", **PREDICTIONS}},
)
async def list_predictions(
    context: Context,
    request: Request,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:
    """The caller's predictions, a hundred a page: every job is one, however it was asked for."""
    page = await context.tracking.list(limit=_PAGE, cursor=cursor)
    base = base_of(request)
    following = None
    if page.cursor is not None:
        following = str(request.url.include_query_params(cursor=page.cursor))
    results = [prediction_of(job, base=base) for job in page.jobs]
    return JSONResponse({"previous": None, "next": following, "results": results})


@router.get(
    "/predictions/{prediction_id}",
    response_class=JSONResponse,
    responses={200: answer("The prediction as it is now.")},
)
async def get_prediction(
    context: Context, request: Request, prediction_id: PredictionId
) -> Response:
    """A prediction by the service's id of it, or by its caller's own."""
    return JSONResponse(await shown(context, request, await find(context, prediction_id)))


@router.post(
    "/predictions/{prediction_id}/cancel",
    response_class=JSONResponse,
    responses={200: answer("The prediction as it is now; one that has ended stays as it is.")},
)
async def cancel_prediction(
    context: Context, request: Request, prediction_id: PredictionId
) -> Response:
    """Take a prediction back: at once while it waits, within one step while it is drawn."""
    job = await cancel(context, await find(context, prediction_id))
    return JSONResponse(await shown(context, request, job))


@router.get(
    "/predictions/{prediction_id}/stream",
    response_class=StreamingResponse,
    responses={
        200: streams.ANSWER,
        204: {"description": "It has ended, and there is nothing after that event."},
    },
)
async def stream_prediction(
    context: Context,
    request: Request,
    prediction_id: PredictionId,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """`logs` as it is drawn, an `output` for each picture, then `done`."""
    job = await find(context, prediction_id)
    known = last_event_id or ""
    after = int(known) if known.isascii() and known.isdigit() and len(known) < 10 else 0
    if job.status.finished and not await context.tracking.happened(job.id, after=after):
        return Response(status_code=204, headers=events.HEADERS)
    show = partial(shown, context, request)
    return streams.answer(context, streams.replicate_frames(context, job, show, after=after))


@router.get("/webhooks/default/secret")
async def get_webhook_secret(context: Context) -> Secret:
    """What the caller's webhooks are signed with."""
    return Secret(key=await context.tracking.webhook_secret())


async def _made(context: ApiContext, request: Request, job: Job, prefer: list[str]) -> Response:
    wait = _wait(prefer)
    if wait is None:
        return JSONResponse(await shown(context, request, job), 201)
    # When the caller leaves, the job goes on: it can be asked for.
    with contextlib.suppress(ClientGone):
        job = await while_connected(
            request, context.tracking.wait(job.id, timeout=wait), stopping=context.stopping
        )
    prediction = await shown(context, request, job)
    if job.status is JobStatus.RUNNING:
        # As Replicate's own: for its clients, only "starting" says that there is more to come.
        prediction["status"] = STATUSES[JobStatus.QUEUED]
    headers = {"Preference-Applied": f"wait={wait}"}
    return JSONResponse(prediction, 201 if job.status.finished else 202, headers=headers)


def _wait(prefer: list[str]) -> int | None:
    seconds = preferred_wait(prefer)
    plain = "wait" in (each.strip().lower() for each in ",".join(prefer).split(","))
    return _WAIT_SECONDS if seconds is None and plain else seconds
