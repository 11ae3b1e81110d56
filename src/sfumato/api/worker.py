"""Workers elsewhere, over HTTPS alone: ``/v1/worker``. Not for other callers, and not yet stable.

Each call names its worker and shows its token. No answer depends on what this process remembers:
any replica, also one that has just started, gives the same.
"""

from __future__ import annotations

from typing import Annotated

import orjson
from fastapi import APIRouter, Path, Request, Response

from sfumato.api.body import openapi_body, read_bytes, read_json
from sfumato.api.connection import ClientGone, while_connected
from sfumato.api.context import Services
from sfumato.api.schemas import PROBLEMS
from sfumato.api.worker_calls import (
    MAX_BLOB_BYTES,
    MAX_COMPLETION_BYTES,
    AttemptDep,
    CallerDep,
    blob_upload,
    checkpoint_urls,
    image_type,
    input_urls,
)
from sfumato.api.worker_schemas import (
    Accepted,
    Claim,
    Claimed,
    Completion,
    FailureReport,
    Greeting,
    Heartbeat,
    HeartbeatAnswer,
    Leaving,
    Loading,
    Presence,
    Release,
    Report,
    Stopped,
    Stored,
    Upload,
    UploadRequest,
    Watch,
    WatchAnswer,
)
from sfumato.core import wire
from sfumato.core.errors import Forbidden, Unauthorized
from sfumato.core.job import JobError
from sfumato.core.ports import Progress, WorkerKind, WorkerReport
from sfumato.core.request import MAX_IMAGES

#: What a checkpoint is served and stored as.
_BLOB = "application/octet-stream"

router = APIRouter(prefix="/v1/worker", tags=["worker"], responses=PROBLEMS)
_ATTEMPT = "/jobs/{job_id}/{attempt}"
Index = Annotated[int, Path(ge=0, lt=MAX_IMAGES)]
Sha256 = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]


@router.get("")
async def greet(context: Services, caller: CallerDep) -> Greeting:
    """What the token is for, and the terms of its leases."""
    return Greeting(
        worker=caller.worker,
        token=caller.token.id,
        runtimes=list(caller.token.runtimes),
        lease=caller.parts.work.lease,
        now=context.clock.now(),
    )


@router.post(
    "/claim",
    openapi_extra=openapi_body(Claim),
    responses={200: {"model": Claimed}, 204: {"description": "No job within the wait."}},
)
async def claim(context: Services, caller: CallerDep, request: Request) -> Response:
    """Wait for a job and win it."""
    body = await read_json(request, Claim)
    await caller.check(runtime=body.runtime)
    work, holding = caller.parts.work, [attempt.ref() for attempt in body.holding]
    claiming = work.claim(caller.worker, body.runtime, holding=holding, timeout=body.wait)
    try:
        assignment = await while_connected(request, claiming, stopping=context.stopping)
    except ClientGone:
        assignment = None
    if assignment is not None and await request.is_disconnected():
        await work.leave(caller.worker, holding=holding, reason="its worker hung up")
        assignment = None
    if assignment is None:
        return Response(status_code=204)
    try:
        # It may have been revoked during the wait, and its jobs queued before this one was won.
        await caller.check(runtime=body.runtime)
    except (Unauthorized, Forbidden):
        reason = "the token of its worker was revoked"
        await work.leave(caller.worker, holding=holding, reason=reason)
        raise
    marked = caller.parts.models.marked
    claimed = Claimed(
        job=wire.job_to_data(assignment.job),
        model=wire.model_to_data(await marked(assignment.model)),
        extras=[wire.model_to_data(await marked(extra)) for extra in assignment.extras],
        checkpoint=await checkpoint_urls(caller, assignment.job),
        inputs=await input_urls(caller, assignment.job),
    )
    return Response(orjson.dumps(claimed.model_dump()), media_type="application/json")


@router.post("/heartbeat", openapi_extra=openapi_body(Heartbeat))
async def heartbeat(caller: CallerDep, request: Request) -> HeartbeatAnswer:
    """Keep attempts for another lease; tells which were lost or canceled."""
    body = await read_json(request, Heartbeat)
    attempts = [attempt.ref() for attempt in body.holding]
    return HeartbeatAnswer(states=list(await caller.parts.work.heartbeat(caller.worker, attempts)))


@router.post("/presence", status_code=204, openapi_extra=openapi_body(Presence))
async def presence(context: Services, caller: CallerDep, request: Request) -> None:
    """What the worker is and which models it holds, for `/v1/workers` and `/v1/models`."""
    body = await read_json(request, Presence)
    await caller.check(runtime=body.runtime)
    report = WorkerReport(
        name=caller.worker,
        runtime=body.runtime,
        kind=WorkerKind.REMOTE,
        device=body.device,
        models=tuple(body.models),
        started_at=body.started_at,
        seen_at=context.clock.now(),
    )
    await context.workers.seen(report)


@router.post("/leave", status_code=204, openapi_extra=openapi_body(Leaving))
async def leave(context: Services, caller: CallerDep, request: Request) -> None:
    """The worker ends. What it holds, but for what it names, is queued again."""
    body = await read_json(request, Leaving)
    holding = [attempt.ref() for attempt in body.holding]
    await caller.parts.work.leave(caller.worker, holding=holding, reason="its worker has ended")
    await context.workers.gone(caller.worker)


@router.post(f"{_ATTEMPT}/watch", openapi_extra=openapi_body(Watch))
async def watch(
    context: Services, caller: CallerDep, attempt: AttemptDep, request: Request
) -> WatchAnswer:
    """Wait until the attempt is canceled or lost."""
    body = await read_json(request, Watch)
    watching = caller.parts.work.revoked(caller.worker, attempt, timeout=body.wait)
    try:
        revocation = await while_connected(request, watching, stopping=context.stopping)
    except ClientGone:
        revocation = None
    return WatchAnswer(revocation=revocation)


@router.post(f"{_ATTEMPT}/loading", status_code=204, openapi_extra=openapi_body(Loading))
async def loading(caller: CallerDep, attempt: AttemptDep, request: Request) -> None:
    """The model is being brought onto the worker's disk or into its memory."""
    body = await read_json(request, Loading)
    await caller.parts.work.loading(caller.worker, attempt, fetched=body.fetched)


@router.post(f"{_ATTEMPT}/progress", status_code=204, openapi_extra=openapi_body(Report))
async def progress(caller: CallerDep, attempt: AttemptDep, request: Request) -> None:
    """How far the attempt is, at times with a preview."""
    body = await read_json(request, Report)
    await caller.parts.work.report(caller.worker, attempt, Progress(**dict(body)))


@router.post(f"{_ATTEMPT}/images/{{index}}/upload", openapi_extra=openapi_body(UploadRequest))
async def image_upload(
    caller: CallerDep, attempt: AttemptDep, index: Index, request: Request
) -> Upload:
    """Where to PUT a picture: the bucket's own URL, or the next route."""
    body = await read_json(request, UploadRequest)
    key = await caller.parts.work.image_key(caller.worker, attempt, index)
    return await blob_upload(
        caller, key, body.media_type, fallback=f"{_path(attempt)}/images/{index}"
    )


@router.put(f"{_ATTEMPT}/images/{{index}}", status_code=204)
async def put_image(caller: CallerDep, attempt: AttemptDep, index: Index, request: Request) -> None:
    """A picture's bytes, for a service whose pictures lie in no bucket; watchers are told."""
    media_type = image_type(request)
    key = await caller.parts.work.image_key(caller.worker, attempt, index)
    data = await read_bytes(request, limit=MAX_BLOB_BYTES)
    await caller.parts.images.put(key, data, media_type=media_type)
    await caller.parts.work.stored(caller.worker, attempt, index, len(data))


@router.post(f"{_ATTEMPT}/images/{{index}}", status_code=204, openapi_extra=openapi_body(Stored))
async def image_stored(
    caller: CallerDep, attempt: AttemptDep, index: Index, request: Request
) -> None:
    """The picture is in the bucket; it is looked for, and watchers are told."""
    body = await read_json(request, Stored)
    await caller.parts.work.stored(caller.worker, attempt, index, body.size_bytes)


@router.post(f"{_ATTEMPT}/checkpoints/{{index}}/upload")
async def checkpoint_upload(caller: CallerDep, attempt: AttemptDep, index: Index) -> Upload:
    """Where to PUT the state of a picture under way."""
    key = await caller.parts.work.checkpoint_key(caller.worker, attempt, index)
    return await blob_upload(caller, key, _BLOB, fallback=f"{_path(attempt)}/checkpoints/{index}")


@router.put(f"{_ATTEMPT}/checkpoints/{{index}}", status_code=204)
async def put_checkpoint(
    caller: CallerDep, attempt: AttemptDep, index: Index, request: Request
) -> None:
    """A state's bytes, for a service whose pictures lie in no bucket."""
    key = await caller.parts.work.checkpoint_key(caller.worker, attempt, index)
    data = await read_bytes(request, limit=MAX_BLOB_BYTES)
    await caller.parts.images.put(key, data, media_type=_BLOB)


@router.get(f"{_ATTEMPT}/checkpoints/{{index}}", response_class=Response)
async def get_checkpoint(caller: CallerDep, attempt: AttemptDep, index: Index) -> Response:
    """A state's bytes, to be resumed."""
    key = await caller.parts.work.checkpoint_key(caller.worker, attempt, index)
    return Response((await caller.parts.images.get(key)).data, media_type=_BLOB)


@router.get(f"{_ATTEMPT}/inputs/{{sha256}}", response_class=Response)
async def get_input(caller: CallerDep, attempt: AttemptDep, sha256: Sha256) -> Response:
    """A picture that the job brought along, for a service whose pictures lie in no bucket."""
    key = await caller.parts.work.input_key(caller.worker, attempt, sha256)
    return Response((await caller.parts.images.get(key)).data, media_type=_BLOB)


@router.post(f"{_ATTEMPT}/complete", openapi_extra=openapi_body(Completion))
async def complete(caller: CallerDep, attempt: AttemptDep, request: Request) -> Accepted:
    """Every picture is stored: the job has succeeded."""
    body = await read_json(request, Completion, limit=MAX_COMPLETION_BYTES)
    accepted = await caller.parts.work.complete(
        caller.worker,
        attempt,
        [image.record() for image in body.images],
        timings=body.timings.timings(),
        notes=body.notes,
        recipe=body.recipe,
        gpu_seconds=body.gpu_seconds,
    )
    return Accepted(accepted=accepted)


@router.post(f"{_ATTEMPT}/fail", openapi_extra=openapi_body(FailureReport))
async def fail(caller: CallerDep, attempt: AttemptDep, request: Request) -> Accepted:
    """The attempt has failed."""
    body = await read_json(request, FailureReport)
    error = JobError(body.code, body.message)
    accepted = await caller.parts.work.fail(
        caller.worker, attempt, error, retryable=body.retryable, gpu_seconds=body.gpu_seconds
    )
    return Accepted(accepted=accepted)


@router.post(f"{_ATTEMPT}/canceled", openapi_extra=openapi_body(Stopped))
async def canceled(caller: CallerDep, attempt: AttemptDep, request: Request) -> Accepted:
    """The worker has stopped a job whose caller took it back."""
    # An older worker sends no body.
    sent = request.headers.get("content-length", "0") != "0"
    body = await read_json(request, Stopped) if sent else Stopped()
    accepted = await caller.parts.work.canceled(
        caller.worker, attempt, gpu_seconds=body.gpu_seconds
    )
    return Accepted(accepted=accepted)


@router.post(f"{_ATTEMPT}/release", openapi_extra=openapi_body(Release))
async def release(caller: CallerDep, attempt: AttemptDep, request: Request) -> Accepted:
    """The worker gives the job back, to be resumed by another."""
    body = await read_json(request, Release)
    accepted = await caller.parts.work.release(
        caller.worker,
        attempt,
        reason=body.reason,
        resumable=body.resumable,
        gpu_seconds=body.gpu_seconds,
    )
    return Accepted(accepted=accepted)


def _path(attempt: AttemptDep) -> str:
    return f"/v1/worker/jobs/{attempt.job_id}/{attempt.number}"
