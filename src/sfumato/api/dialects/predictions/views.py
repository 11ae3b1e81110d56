"""A job as a prediction."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sfumato.api.dialects.predictions.asked import ID_NOTE, slug
from sfumato.api.schemas import job_path
from sfumato.core.events import Event, EventKind
from sfumato.core.job import Job, JobStatus
from sfumato.core.request import OutputFormat
from sfumato.services.tracking import Tracking

#: A page of a job's events, as the store hands them out.
_PAGE = 1000
_BAR = 20
#: Whose every model is, to those who write ``owner/name``.
OWNER = "sfumato"

STATUSES: Mapping[JobStatus, str] = {
    JobStatus.QUEUED: "starting",
    JobStatus.RUNNING: "processing",
    JobStatus.SUCCEEDED: "succeeded",
    JobStatus.FAILED: "failed",
    JobStatus.CANCELED: "canceled",
}


def prediction_of(
    job: Job, *, base: str, logs: str | None = None, output: Sequence[str] | None = None
) -> dict[str, Any]:
    """The prediction's object.

    Args:
        base: what its addresses begin with.
        logs: None: as far as the job itself tells.
        output: None: the addresses of the job's pictures.
    """
    path = f"{base}/v1/predictions/{job.id}"
    found = addresses(job, base) if output is None else list(output)
    return {
        "id": str(job.request.metadata.get(ID_NOTE, job.id)),
        "model": qualified(job.settings.model),
        "version": job.settings.model,
        "status": STATUSES[job.status],
        "input": _input_of(job, base),
        "output": found if job.status is JobStatus.SUCCEEDED else None,
        "error": None if job.error is None else job.error.message,
        "logs": logs_of(job) if logs is None else logs,
        "metrics": _metrics_of(job),
        "created_at": moment(job.created_at),
        "started_at": moment(job.started_at),
        "completed_at": moment(job.finished_at),
        "data_removed": False,
        "urls": {"get": path, "cancel": f"{path}/cancel", "stream": f"{path}/stream"},
    }


def qualified(model: str) -> str:
    """A model's name as ``owner/name``."""
    return f"{OWNER}/{slug(model)}"


def addresses(job: Job, base: str) -> list[str]:
    return [f"{base}{job_path(job.id)}/images/{image.index}" for image in job.images]


async def data_urls(tracking: Tracking, job: Job) -> list[str]:
    """The job's pictures themselves."""
    found = []
    for image in job.images:
        stored = await tracking.image(job.id, image.index)
        encoded = await asyncio.to_thread(base64.b64encode, stored.data)
        found.append(f"data:{stored.media_type};base64,{encoded.decode()}")
    return found


def logs_of(job: Job, step: Event | None = None) -> str:
    """What there is to know, a line each; last, how far it is, as a progress bar."""
    lines = [f"Using seed: {job.settings.seed}", *job.notes]
    if step is not None:
        lines.append(progress_line(step))
    return "".join(f"{line}\n" for line in lines)


def progress_line(step: Event) -> str:
    """A step as the bar that clients of Replicate read a percentage from."""
    done, steps = int(step.data["step"]), max(1, int(step.data["steps"]))
    bar = ("#" * (_BAR * done // steps)).ljust(_BAR)
    return f"{100 * done // steps:3d}%|{bar}| {done}/{steps}"


async def last_step(tracking: Tracking, job: Job) -> Event | None:
    """The latest step that a job has told of."""
    if job.attempt == 0:
        return None
    found, after = None, 0
    while True:
        events = await tracking.happened(job.id, after=after)
        steps = [event for event in events if event.kind is EventKind.STEP]
        found = steps[-1] if steps else found
        if len(events) < _PAGE:
            return found
        after = events[-1].number


def moment(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def _metrics_of(job: Job) -> dict[str, float]:
    """``predict_time``: seconds from the last attempt's start; ``total_time``: from the request."""
    if job.finished_at is None:
        return {}
    total = max(0.0, job.finished_at - job.created_at)
    started = job.finished_at if job.started_at is None else job.started_at
    return {"predict_time": max(0.0, job.finished_at - started), "total_time": total}


def _input_of(job: Job, base: str) -> dict[str, Any]:
    """What was asked, as far as this dialect has words for it; pictures by their addresses."""
    request = job.request
    inputs = f"{base}{job_path(job.id)}/inputs"
    mask = None if request.inpainting is None else request.inpainting.mask
    lora = request.loras[0] if len(request.loras) == 1 else None
    is_png = request.output_format is OutputFormat.PNG
    scheduler = " ".join(filter(None, (request.sampler, request.schedule)))
    given = {
        "negative_prompt": request.negative_prompt or None,
        "width": request.width,
        "height": request.height,
        "num_outputs": None if request.num_images == 1 else request.num_images,
        "num_inference_steps": request.num_inference_steps,
        "guidance_scale": request.guidance_scale,
        "scheduler": scheduler or None,
        "seed": request.seed,
        "image": None if request.init_image is None else f"{inputs}/{request.init_image.sha256}",
        "mask": None if mask is None else f"{inputs}/{mask.sha256}",
        "prompt_strength": request.strength,
        "output_format": None if is_png else request.output_format.value,
        "output_quality": request.output_quality,
        "lora": None if lora is None else lora.name,
        "lora_scale": None if lora is None else lora.weight,
    }
    known = {name: value for name, value in given.items() if value is not None}
    return {"prompt": request.prompt, **known}
