"""``/v1/images/``: pictures from prompts, from pictures, and variations of one.

A caller waits for his pictures on one connection; one that drops it takes its job back.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from fastapi import APIRouter, Request, Response

from sfumato.api import events
from sfumato.api.body import openapi_body
from sfumato.api.connection import ClientGone, base_of
from sfumato.api.context import ApiContext, Context
from sfumato.api.dialects.openai import asked
from sfumato.api.dialects.openai.answers import ImagesAnswer, pictures
from sfumato.api.dialects.openai.asked import ImageRequest
from sfumato.api.dialects.openai.errors import ErrorAnswer, form, no_pictures
from sfumato.api.dialects.openai.forms import openapi_edit, read_form, read_object
from sfumato.api.dialects.openai.streams import streamed
from sfumato.api.dialects.words import in_their_words
from sfumato.api.inputs import asked_of
from sfumato.api.schemas import job_path
from sfumato.api.wanting import wanted_end
from sfumato.core.job import Job, JobStatus
from sfumato.services.models import find_model

router = APIRouter(
    prefix="/v1/images",
    tags=["dialects"],
    responses={code: {"model": ErrorAnswer} for code in ("4XX", "5XX")},
)
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": ImagesAnswer,
        "content": {events.MEDIA_TYPE: {}},
    }
}


@router.post(
    "/generations",
    response_class=Response,
    openapi_extra=openapi_body(ImageRequest),
    responses=_ANSWERS,
)
async def generate(context: Context, request: Request) -> Response:
    """Draw pictures, as OpenAI's images API. Every field of `/v1/jobs` is taken beside its own."""
    job, wanted = await _submit(context, asked.generation(await read_object(request)))
    return await _answer(context, request, job, wanted, kind="image_generation")


@router.post(
    "/edits",
    response_class=Response,
    openapi_extra=openapi_edit(mask=True),
    responses=_ANSWERS,
)
async def edit(context: Context, request: Request) -> Response:
    """Draw over a picture, or over the part of it where `mask` is transparent."""
    job, wanted = await _submit(context, asked.edit(*await read_form(request)))
    return await _answer(context, request, job, wanted, kind="image_edit")


@router.post(
    "/variations",
    response_class=Response,
    openapi_extra=openapi_edit(mask=False),
    responses=_ANSWERS,
)
async def vary(context: Context, request: Request) -> Response:
    """Draw pictures like another one: over it, with strength 0.6 unless the form says otherwise."""
    job, wanted = await _submit(context, asked.variation(*await read_form(request)))
    return await _answer(context, request, job, wanted)


class _Wanted(NamedTuple):
    """How the caller wants his pictures."""

    as_url: bool
    stream: bool
    partial_images: int
    quality: str


async def _submit(context: ApiContext, read: asked.Read) -> tuple[Job, _Wanted]:
    """What was read is let go of when it returns, before anybody waits for the job."""
    body = read.asked
    with in_their_words(read.names):
        found = await asked_of(body.to_native(), read.parts, context.tracking, context.web)
        request = found.request
        if request.num_inference_steps is None:
            usual = (await find_model(context.catalog, request.model)).defaults.num_inference_steps
            request = replace(request, num_inference_steps=body.steps_of(usual))
        job = await context.submission.submit(request, inputs=found.files, webhook=found.webhook)
    as_url = body.response_format == "url"
    return job, _Wanted(as_url, body.stream, body.partial_images, body.drawn_quality)


async def _answer(
    context: ApiContext, request: Request, job: Job, wanted: _Wanted, *, kind: str = ""
) -> Response:
    """Args:
    kind: what a stream's events are called.
    """
    if wanted.stream:
        return streamed(
            *(context, job),
            kind=kind,
            partial_images=wanted.partial_images,
            quality=wanted.quality,
        )
    try:
        job = await wanted_end(context, request, job)
    except ClientGone:
        return Response(status_code=499)  # nobody reads it
    if job.status is not JobStatus.SUCCEEDED:
        return form(no_pictures(job))
    address = f"{base_of(request)}{job_path(job.id)}/images"
    return await pictures(context, job, address if wanted.as_url else None, quality=wanted.quality)
