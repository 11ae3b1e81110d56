"""``POST /sdapi/v1/txt2img`` and ``/img2img``: the caller waits, and takes his job back by leaving."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response

from sfumato.api.body import as_object, body_schema, checked
from sfumato.api.connection import ClientGone
from sfumato.api.context import ApiContext, Context
from sfumato.api.dialects.a1111.answers import Drawn, encoded
from sfumato.api.dialects.a1111.drawing import Drawing, Img2Img, Txt2Img
from sfumato.api.dialects.a1111.options import Loose, Mine, MyOptions
from sfumato.api.dialects.a1111.translation import NAMES, translated
from sfumato.api.dialects.words import in_their_words
from sfumato.api.inputs import read_json_with_pictures
from sfumato.api.wanting import failure, wanted_end
from sfumato.core.job import Job, JobStatus
from sfumato.core.models import ModelInfo, ModelKind

router = APIRouter(tags=["dialects"])

Body = TypeVar("Body", bound=Loose)


def openapi_pictures(model: type[Loose]) -> dict[str, Any]:
    """``openapi_extra`` of a route that reads its body through :func:`read`."""
    content = {"application/json": {"schema": body_schema(model)}}
    return {"requestBody": {"required": True, "content": content}}


async def read(request: Request, model: type[Body]) -> Body:
    """A body that may hold pictures. Raises as :mod:`sfumato.api.body` does."""
    return checked(model, as_object(await read_json_with_pictures(request)))


@router.post("/sdapi/v1/txt2img", response_model=Drawn, openapi_extra=openapi_pictures(Txt2Img))
async def txt2img(context: Context, mine: MyOptions, request: Request) -> Response:
    """Draw from noise."""
    return await _drawn(context, mine, request, await read(request, Txt2Img))


@router.post("/sdapi/v1/img2img", response_model=Drawn, openapi_extra=openapi_pictures(Img2Img))
async def img2img(context: Context, mine: MyOptions, request: Request) -> Response:
    """Draw from a picture, or a part of one anew."""
    return await _drawn(context, mine, request, await read(request, Img2Img))


async def _drawn(context: ApiContext, mine: Mine, request: Request, body: Drawing) -> Response:
    with in_their_words(NAMES):
        asked = await translated(context, body, mine.now(body.override_settings))
        job = await context.submission.submit(asked.request, inputs=asked.files)
    try:
        job = await wanted_end(context, request, job)
    except ClientGone:
        return Response(status_code=499)  # nobody reads it
    if job.status is JobStatus.FAILED:
        raise failure(job)
    # A job that was interrupted has none, as in A1111 before the first picture.
    pictures = [(await context.tracking.image(job.id, image.index)).data for image in job.images]
    content = await asyncio.to_thread(encoded, body, asked, job, _models(context, job), pictures)
    headers = {"X-Sfumato-Job": job.id, "X-Sfumato-Seed": str(job.settings.seed)}
    return Response(content, headers=headers, media_type="application/json")


def _models(context: ApiContext, job: Job) -> dict[str, ModelInfo]:
    """What drew, as far as the catalogue still has it."""
    wanted = {
        (ModelKind.BASE, job.settings.model): "model",
        (ModelKind.VAE, job.request.vae): "vae",
    }
    return {
        wanted[model.kind, model.name]: model
        for model in context.catalog.list()
        if (model.kind, model.name) in wanted
    }
