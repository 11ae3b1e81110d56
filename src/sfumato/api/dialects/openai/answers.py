"""OpenAI's answers of a finished job: all of its pictures at once."""

from __future__ import annotations

import asyncio
import base64
from typing import Any, Literal

import orjson
from fastapi import Response
from pydantic import BaseModel, Field

from sfumato.api.context import ApiContext
from sfumato.core.job import Job
from sfumato.core.request import OutputFormat

#: No part of a picture is counted in tokens here; its clients read the figures all the same.
USAGE: dict[str, Any] = {
    "total_tokens": 0,
    "input_tokens": 0,
    "output_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
}
BACKGROUND = "opaque"


class ImageData(BaseModel):
    """A picture: its file in base64, or where it is read."""

    b64_json: str | None = None
    url: str | None = Field(None, examples=["http://localhost:8080/v1/jobs/01k…/images/0"])


class TokenDetails(BaseModel):
    image_tokens: int
    text_tokens: int


class Usage(BaseModel):
    """Always 0: nothing is counted in tokens."""

    total_tokens: int
    input_tokens: int
    output_tokens: int
    input_tokens_details: TokenDetails


class ImagesAnswer(BaseModel):
    """The pictures of one request."""

    created: int = Field(description="When its job was made: seconds since 1970.")
    data: list[ImageData]
    background: Literal["opaque"]
    output_format: OutputFormat
    quality: Literal["low", "medium", "high"]
    size: str = Field(examples=["512x512"])
    usage: Usage


async def pictures(context: ApiContext, job: Job, address: str | None, *, quality: str) -> Response:
    """The answer of a job that has succeeded.

    Args:
        quality: that was asked for.
        address: under which its pictures lie; None: the pictures themselves go along.
    """
    data: list[dict[str, str]] = []
    for image in job.images:
        if address is None:
            data.append({"b64_json": await encoded(context, job, image.index)})
        else:
            data.append({"url": f"{address}/{image.index}"})
    body = {"created": int(job.created_at), "data": data, **looks(job, quality), "usage": USAGE}
    return Response(orjson.dumps(body), headers=headers(job), media_type="application/json")


async def encoded(context: ApiContext, job: Job, index: int) -> str:
    """A picture's file in base64. Raises ``NotFound``."""
    stored = await context.tracking.image(job.id, index)
    # A large one must not hold up the others.
    return (await asyncio.to_thread(base64.b64encode, stored.data)).decode()


def looks(job: Job, quality: str) -> dict[str, str]:
    """What an answer says of how its pictures look."""
    return {
        "background": BACKGROUND,
        "output_format": job.request.output_format.value,
        "quality": quality,
        "size": f"{job.settings.width}x{job.settings.height}",
    }


def headers(job: Job) -> dict[str, str]:
    """``x-request-id`` is what OpenAI's SDKs show as the answer's ``_request_id``."""
    return {
        "X-Sfumato-Job": job.id,
        "X-Sfumato-Seed": str(job.settings.seed),
        "x-request-id": job.id,
    }
