"""The native API: ``/v1``. Every dialect is a translation to what stands here."""

from __future__ import annotations

import contextlib
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from sfumato.api import events
from sfumato.api.connection import ClientGone, while_connected
from sfumato.api.context import Context
from sfumato.api.inputs import openapi_job_body, read_job
from sfumato.api.schemas import (
    PROBLEMS,
    JobList,
    JobView,
    ModelList,
    ModelView,
    RuntimeList,
    RuntimeView,
    job_path,
)
from sfumato.api.workers import LISTED_SECONDS
from sfumato.core.errors import InvalidRequest, NotFound, Unavailable
from sfumato.core.finding import KIND_WORDS
from sfumato.core.job import ImageRecord, Job, JobStatus
from sfumato.core.models import ModelInfo, ModelKind
from sfumato.core.samplers import SAMPLERS, SCHEDULES
from sfumato.services.inputs import input_of

#: A caller that asks to wait longer waits this long; proxies rarely allow more.
MAX_WAIT_SECONDS = 300
MAX_KEY_CHARACTERS = 255
_FOR_GOOD = "private, max-age=31536000, immutable"
#: How long the address of a redirect is good: for whoever follows it, not for keeping.
_REDIRECT_SECONDS = 300
#: Seconds for which a look at the models is good enough for a listing.
_CATALOG_AGE = 1.0

router = APIRouter(prefix="/v1", responses=PROBLEMS)
#: Apart, because a model's name may hold slashes: this one takes all paths below ``/v1/models`` that
#: are left, and must stand behind the dialects that have some there.
models_router = APIRouter(prefix="/v1", responses=PROBLEMS)
JobId = Annotated[str, Path(max_length=64, examples=["01k9zs6v7m3b8d0p1q2r3s4t5v"])]


@router.post(
    "/jobs",
    tags=["jobs"],
    status_code=202,
    openapi_extra=openapi_job_body(),
    responses={200: {"model": JobView, "description": "Finished within the wait asked for."}},
)
async def create_job(
    context: Context,
    request: Request,
    response: Response,
    *,
    prefer: Annotated[
        list[str] | None, Header(description="`wait=N` waits up to N seconds for the end.")
    ] = None,
    idempotency_key: Annotated[
        str | None, Header(description="Sent again with the same body, it answers the same job.")
    ] = None,
) -> JobView:
    """Queue a job. Once this answers 202, the job is on disk and outlives a crash.

    A picture is given as a data URL, in base64, as its https address, as `{"job": "<id>", "index": 0}` for that of an
    earlier job, or as `{"part": "<name>"}`: then the body is `multipart/form-data` with the JSON as
    its part `request` and the file as the part of that name.
    """
    _check_key(idempotency_key)
    job = await _submit(context, request, idempotency_key)
    request.state.traceparent = job.traceparent
    response.headers["Location"] = job_path(job.id)
    wait = preferred_wait(prefer or [])
    if wait is not None:
        response.headers["Preference-Applied"] = f"wait={wait}"
        # When the caller leaves, the job goes on: it has a durable life of its own.
        with contextlib.suppress(ClientGone):
            job = await while_connected(
                request, context.tracking.wait(job.id, timeout=wait), stopping=context.stopping
            )
    if job.status.finished:
        response.status_code = 200
    return await _view(context, job)


async def _submit(context: Context, request: Request, idempotency_key: str | None) -> Job:
    """Its files are let go of when it returns, before whoever waits for the job."""
    asked = await read_job(request, context.tracking, context.web)
    return await context.submission.submit(
        asked.request,
        inputs=asked.files,
        idempotency_key=idempotency_key,
        webhook=asked.webhook,
    )


@router.get("/jobs", tags=["jobs"])
async def list_jobs(
    context: Context,
    status: JobStatus | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> JobList:
    """Jobs, newest first."""
    page = await context.tracking.list(status=status, limit=limit, cursor=cursor)
    return JobList(jobs=[JobView.of(job) for job in page.jobs], next=page.cursor)


@router.get("/jobs/{job_id}", tags=["jobs"])
async def get_job(context: Context, request: Request, job_id: JobId) -> JobView:
    """A job as it is now."""
    job = await context.tracking.get(job_id)
    request.state.traceparent = job.traceparent
    return await _view(context, job)


@router.post("/jobs/{job_id}/cancel", tags=["jobs"])
async def cancel_job(context: Context, job_id: JobId) -> JobView:
    """Take a job back: at once while it is queued, within one denoising step while it runs."""
    return await _view(context, await context.tracking.cancel(job_id))


@router.get(
    "/jobs/{job_id}/events",
    tags=["jobs"],
    response_class=StreamingResponse,
    responses={
        200: {"content": {events.MEDIA_TYPE: {}}},
        204: {"description": "The job has finished and there is nothing after that number."},
    },
)
async def watch_job(
    context: Context,
    job_id: JobId,
    after: Annotated[int, Query(ge=0, lt=2**31, description="Only events above this number.")] = 0,
    last_event_id: Annotated[str | None, Header(description="As `after`; this one wins.")] = None,
) -> Response:
    """Everything that happened to a job, then what happens, as server-sent events.

    Ends after `succeeded`, `failed` or `canceled`. 204 tells an EventSource to stop asking.
    """
    if last_event_id is not None:
        # As ``after``, but a browser sends it by itself: what is not a number starts anew.
        after = int(last_event_id) if re.fullmatch(r"\d{1,9}", last_event_id, re.ASCII) else 0
    job = await context.tracking.get(job_id)
    if job.status.finished and await _is_last(context, job_id, after):
        return Response(status_code=204, headers=events.HEADERS)
    told = context.tracking.events(job_id, after=after)
    return StreamingResponse(
        events.stream(told, stopping=context.stopping),
        media_type=events.MEDIA_TYPE,
        headers=events.HEADERS,
    )


async def _is_last(context: Context, job_id: str, after: int) -> bool:
    async for _event in context.tracking.events(job_id, after=after):
        return False
    return True


@router.head("/jobs/{job_id}/images/{index}", include_in_schema=False)
@router.get(
    "/jobs/{job_id}/images/{index}",
    tags=["jobs"],
    response_class=Response,
    responses={
        200: {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}},
        304: {"description": "The caller's copy is the picture."},
        307: {"description": "Where the bucket itself answers, if ``redirect`` was asked for."},
    },
)
async def get_image(
    context: Context,
    request: Request,
    job_id: JobId,
    index: Annotated[int, Path(ge=0, lt=2**31)],
    *,
    if_none_match: Annotated[str | None, Header()] = None,
    redirect: Annotated[
        bool, Query(description="Send the caller to the bucket, where pictures lie in one.")
    ] = False,
) -> Response:
    """A picture, with the recipe inside. It never changes, so it may be cached for good."""
    job = await context.tracking.get(job_id)
    headers = {}
    for record in job.images:
        if record.index == index:
            headers = _image_headers(job_id, record)
    if _knows(if_none_match, headers.get("ETag")):
        return Response(status_code=304, headers=headers)
    # A signed URL is good for one method: whoever asks for the headers alone gets them here.
    if redirect and request.method == "GET":
        url = await context.tracking.image_url(job_id, index, expires=_REDIRECT_SECONDS)
        if url is not None:
            return RedirectResponse(url, headers={"Cache-Control": "no-store"})
    stored = await context.tracking.image(job_id, index)
    return Response(stored.data, media_type=stored.media_type, headers=headers)


@router.get(
    "/jobs/{job_id}/inputs/{sha256}",
    tags=["jobs"],
    response_class=Response,
    responses={
        200: {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}},
        304: {"description": "The caller's copy is the picture."},
    },
)
async def get_input(
    context: Context,
    job_id: JobId,
    sha256: Annotated[str, Path(pattern="^[0-9a-f]{64}$")],
    *,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """A picture that the request brought along, as it came."""
    etag = f'"{sha256}"'
    headers = {"ETag": etag, "Cache-Control": _FOR_GOOD, "X-Content-Type-Options": "nosniff"}
    image = input_of(await context.tracking.get(job_id), sha256)
    if _knows(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    stored = await context.tracking.input(job_id, sha256)
    return Response(stored.data, media_type=image.media_type, headers=headers)


def _image_headers(job_id: str, record: ImageRecord) -> dict[str, str]:
    name = f"{job_id}-{record.index}{PurePosixPath(record.key).suffix}"
    return {
        "ETag": f'"{record.sha256}"',
        "Cache-Control": _FOR_GOOD,
        "Content-Disposition": f'inline; filename="{name}"',
        "X-Content-Type-Options": "nosniff",
    }


def _knows(if_none_match: str | None, etag: str | None) -> bool:
    """Whether the caller's copy is the picture (RFC 9110, 13.1.2)."""
    if if_none_match is None or etag is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or "*" in tags


@models_router.get("/models", tags=["models"])
async def list_models(
    context: Context,
    kind: Annotated[
        ModelKind | Literal["all"],
        Query(description="`base` are the models that draw, which a request's `model` names."),
    ] = ModelKind.BASE,
) -> ModelList:
    """The models of the catalogue, and the samplers and schedules that each of them takes; or the
    LoRAs, or whatever else a request can name beside its model.

    `object` and `data` are the same list for OpenAI's clients."""
    await _refresh(context)
    view = await _model_view(context)
    return ModelList.of(
        [view(model) for model in context.catalog.list() if kind in (model.kind, "all")],
        samplers=SAMPLERS,
        schedules=SCHEDULES,
    )


@models_router.get("/models/{name:path}", tags=["models"])
async def get_model(context: Context, name: str, kind: ModelKind = ModelKind.BASE) -> ModelView:
    """One model, with the words it knows."""
    await _refresh(context)
    for model in context.catalog.list():
        if (model.kind, model.name) == (kind, name):
            return (await _model_view(context))(model, with_vocabulary=True)
    raise NotFound(f"There is no {KIND_WORDS[kind]} {name[:64]!r}; /v1/models lists them.")


@router.get("/runtimes", tags=["runtimes"])
async def list_runtimes(context: Context) -> RuntimeList:
    """Every pool of workers and what it is doing."""
    return RuntimeList(
        runtimes=[
            RuntimeView.of(runtime, await context.runtime_report(runtime.name))
            for runtime in context.runtimes
        ]
    )


async def _view(context: Context, job: Job) -> JobView:
    return JobView.of(job, waiting=await context.tracking.waiting_reason(job))


async def _refresh(context: Context) -> None:
    """Who asks for the models wants those of now; where they can't be seen, those of before."""
    with contextlib.suppress(Unavailable):
        await context.catalog.refresh(max_age=_CATALOG_AGE)


async def _holders(context: Context) -> dict[str, list[str]]:
    """The workers that hold each model in memory."""
    holders: dict[str, list[str]] = defaultdict(list)
    try:
        workers = await context.workers.list(since=context.clock.now() - LISTED_SECONDS)
    except Unavailable:
        return {}
    for worker in workers:
        for model in worker.models:
            holders[model].append(worker.name)
    return holders


async def _model_view(context: Context) -> Callable[..., ModelView]:
    """What shows a model; workers hold base models by name, and one of those is the default."""
    default, holders = _default_model(context), await _holders(context)

    def view(model: ModelInfo, *, with_vocabulary: bool = False) -> ModelView:
        base = model.kind is ModelKind.BASE
        return ModelView.of(
            model,
            default=base and model.name == default,
            loaded_on=holders.get(model.name, ()) if base else (),
            with_vocabulary=with_vocabulary,
        )

    return view


def _default_model(context: Context) -> str | None:
    try:
        return context.catalog.get(None).name
    except InvalidRequest:
        return None  # an empty catalogue, or one whose default must not be loaded


def _check_key(key: str | None) -> None:
    if key is not None and not (1 <= len(key) <= MAX_KEY_CHARACTERS and key.isprintable()):
        raise InvalidRequest(
            f"The Idempotency-Key has {len(key)} characters, or some that can't be printed.",
            field="Idempotency-Key",
            accepted=f"1 to {MAX_KEY_CHARACTERS} printable characters",
        )


def preferred_wait(prefer: list[str]) -> int | None:
    """Seconds of ``wait=N`` in RFC 7240's ``Prefer`` headers, at most 300; None without one.

    Preferences are wishes: what can't be read is left out, and the first ``wait`` counts.
    """
    for preference in ",".join(prefer).split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        value = value.strip().strip('"')
        if name.strip().lower() == "wait" and value.isascii() and value.isdigit():
            return min(int(value[:9]), MAX_WAIT_SECONDS)
    return None
