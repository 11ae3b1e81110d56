"""How far a caller's own pictures are, and taking them back.

A1111 has one state for everybody. Here a caller sees the jobs that he made through this API with his
own key, whatever else it allows; where no key is asked for, all callers are one.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from sfumato.api.body import openapi_body, read_json
from sfumato.api.context import ApiContext, Context
from sfumato.api.dialects.a1111.answers import timestamp
from sfumato.api.dialects.a1111.options import Loose, MyOptions
from sfumato.api.dialects.a1111.translation import CALL, TASK
from sfumato.api.fields import MAX_NAME, Name
from sfumato.core.errors import JobFinished
from sfumato.core.events import EventKind
from sfumato.core.job import Job, JobStatus
from sfumato.core.keys import Scope
from sfumato.services.tracking import Tracking

#: Jobs of one status that are looked at: the newest.
_MOST_JOBS = 200
#: Jobs whose progress is remembered, so that each look reads only what is new.
_MOST_GLIMPSES = 1000
#: What A1111 tells of a picture that has begun.
_BEGUN = 0.01

router = APIRouter(tags=["dialects"])
TaskId = Annotated[str, Query(max_length=MAX_NAME, description="As force_task_id named it.")]


@dataclass(slots=True)
class Glimpse:
    """What a running job has told so far. ``preview``: a data URL, and the event it came with."""

    number: int = 0
    step: int = 0
    steps: int = 0
    preview: str | None = None
    preview_number: int = -1

    @property
    def share(self) -> float:
        """How much is done, 0 to 1."""
        return max(_BEGUN, self.step / self.steps) if self.steps else _BEGUN


class Glimpses:
    """The last that was seen of jobs under way."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, Glimpse] = OrderedDict()

    async def of(self, tracking: Tracking, job: Job) -> Glimpse:
        """Raises ``NotFound`` for a job that the caller may not see."""
        seen = self._of.get(job.id) or Glimpse()
        while events := await tracking.happened(job.id, after=seen.number):
            seen.number = events[-1].number
            for event in events:
                if event.kind is EventKind.STARTED:
                    seen = Glimpse(number=seen.number)
                elif event.kind is EventKind.STEP:
                    seen.step, seen.steps = event.data["step"], event.data["steps"]
                    if "preview" in event.data:
                        seen.preview, seen.preview_number = event.data["preview"], event.number
        self._of[job.id] = seen
        self._of.move_to_end(job.id)
        if len(self._of) > _MOST_GLIMPSES:
            self._of.popitem(last=False)
        return seen


async def _glimpses(request: Request) -> Glimpses:
    state = request.app.state
    if not hasattr(state, "a1111_glimpses"):
        state.a1111_glimpses = Glimpses()
    found: Glimpses = state.a1111_glimpses
    return found


Seen = Annotated[Glimpses, Depends(_glimpses)]


class Progress(BaseModel):
    """A1111's: of the caller's oldest job that runs, or else waits."""

    progress: float = Field(description="0 to 1.")
    eta_relative: float = Field(description="Seconds; 0: not known.")
    state: dict[str, Any]
    current_image: str | None = Field(default=None, description="A small preview, in base64.")
    textinfo: str | None = Field(default=None, description="Why a job does not run yet.")
    current_task: str | None = Field(default=None, description="Its force_task_id.")


class TaskProgress(BaseModel):
    """What A1111's own page asks for."""

    active: bool = Field(description="Whether it runs.")
    queued: bool = Field(description="Whether it waits.")
    completed: bool = Field(description="Whether it has ended.")
    progress: float | None = None
    eta: float | None = None
    live_preview: str | None = Field(default=None, description="A small preview, as a data URL.")
    id_live_preview: int = -1
    textinfo: str | None = None


class TaskQuestion(Loose):
    """Which task, and which preview was seen last."""

    id_task: Name = Field("", description="As force_task_id named it.")
    id_live_preview: int = Field(-1, description="Of the preview that was seen last.")
    live_preview: bool = Field(default=True, description="Whether to show one.")


def own(context: ApiContext) -> Tracking:
    """Tracking that sees what the caller made with this very key, whatever more it may see."""
    key = context.caller.key
    if key is None or not context.caller.may(Scope.READ_ALL):
        return context.tracking
    narrow = replace(key, scopes=frozenset({Scope.READ_OWN}))
    return context.tracking.for_caller(replace(context.caller, key=narrow))


async def _jobs(context: ApiContext, status: JobStatus | None, task: str) -> Sequence[Job]:
    """The caller's jobs of this API, oldest first."""
    page = await own(context).list(status=status, limit=_MOST_JOBS)
    return [
        job
        for job in reversed(page.jobs)
        if job.owner == context.caller.id
        and CALL in job.request.metadata
        and task in ("", job.request.metadata.get(TASK))
    ]


@router.get("/sdapi/v1/progress")
async def progress(
    context: Context,
    mine: MyOptions,
    seen: Seen,
    *,
    skip_current_image: bool = False,
    id_task: TaskId = "",
) -> Progress:
    """How far the caller's own job is; nothing of anybody else's."""
    running = await _jobs(context, JobStatus.RUNNING, id_task)
    jobs = [*running, *await _jobs(context, JobStatus.QUEUED, id_task)]
    if not jobs:
        return Progress(progress=0.0, eta_relative=0.0, state=_state(None, Glimpse(), 0))
    job, glimpse = jobs[0], Glimpse()
    share = left = 0.0
    if running:
        glimpse = await seen.of(own(context), job)
        share = glimpse.share
        left = _left(context, job, share)
    shown = mine.now().live_previews_enable and not skip_current_image and glimpse.preview
    return Progress(
        progress=share,
        eta_relative=left,
        state=_state(job, glimpse, len(jobs)),
        current_image=glimpse.preview.partition(",")[2] if shown and glimpse.preview else None,
        textinfo=await context.tracking.waiting_reason(job),
        current_task=job.request.metadata.get(TASK),
    )


@router.post("/sdapi/v1/interrupt")
async def interrupt(context: Context) -> dict[str, Any]:
    """Take back the caller's jobs that run; where none does, those that wait."""
    await _take_back(context)
    return {}


@router.post("/sdapi/v1/skip")
async def skip(context: Context) -> None:
    """As interrupt: the pictures of a request are drawn together, so none is left to go on to."""
    await _take_back(context)


@router.post("/internal/progress", openapi_extra=openapi_body(TaskQuestion))
async def task_progress(
    context: Context, mine: MyOptions, seen: Seen, request: Request
) -> TaskProgress:
    """How far one of the caller's jobs is, by the ``force_task_id`` that he gave it."""
    asked = await read_json(request, TaskQuestion)
    jobs = await _jobs(context, None, asked.id_task) if asked.id_task else []
    if not jobs:
        return TaskProgress(active=False, queued=False, completed=False, textinfo="Waiting...")
    job = jobs[-1]
    told = TaskProgress(
        active=job.status is JobStatus.RUNNING,
        queued=job.status is JobStatus.QUEUED,
        completed=job.status.finished,
        textinfo=await context.tracking.waiting_reason(job),
    )
    if told.active:
        glimpse = await seen.of(own(context), job)
        told.progress = glimpse.share
        told.eta = _left(context, job, glimpse.share)
        told.id_live_preview = glimpse.preview_number
        wanted = asked.live_preview and mine.now().live_previews_enable
        if wanted and glimpse.preview_number != asked.id_live_preview:
            told.live_preview = glimpse.preview
    return told


async def _take_back(context: ApiContext) -> None:
    jobs = await _jobs(context, JobStatus.RUNNING, "") or await _jobs(context, JobStatus.QUEUED, "")
    for job in jobs:
        with contextlib.suppress(JobFinished):
            await own(context).cancel(job.id)


def _left(context: ApiContext, job: Job, share: float) -> float:
    """Seconds until the end, if it goes on as it went."""
    if job.started_at is None or share <= _BEGUN:
        return 0.0
    return max(0.0, context.clock.now() - job.started_at) * (1 - share) / share


def _state(job: Job | None, glimpse: Glimpse, count: int) -> dict[str, Any]:
    """A1111's state, of one caller."""
    interrupted = job is not None and job.cancel_requested
    return {
        "skipped": False,
        "interrupted": interrupted,
        "stopping_generation": interrupted,
        "job": "" if job is None else str(job.request.metadata[CALL]),
        "job_count": count,
        "job_timestamp": "0" if job is None else timestamp(job),
        "job_no": 0,
        "sampling_step": glimpse.step,
        "sampling_steps": glimpse.steps,
    }
