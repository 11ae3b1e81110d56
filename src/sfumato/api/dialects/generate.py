"""``POST /generate``: a prompt in, PNG bytes out, on one connection.

The contract of CoreWeave's Stable Diffusion service for Knative, with its own defaults and its own
forms of errors. A caller that drops the connection takes its job back.
"""

from __future__ import annotations

from http import HTTPStatus

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field

from sfumato.api.body import openapi_body, read_json
from sfumato.api.connection import ClientGone
from sfumato.api.context import Context
from sfumato.api.fields import Name, Whole
from sfumato.api.problems import status_of
from sfumato.api.requests import Sampler, Schedule, Seed, Side
from sfumato.api.schemas import PROBLEMS
from sfumato.api.wanting import wanted_end
from sfumato.core.errors import InvalidRequest
from sfumato.core.job import Job, JobStatus
from sfumato.core.request import MAX_PROMPT_CHARACTERS, GenerationRequest

router = APIRouter(tags=["dialects"], responses=PROBLEMS)


class GenerateRequest(BaseModel):
    """What to draw. The defaults are this dialect's own, whatever the model."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"prompt": "a castle at night"}]},
    )

    prompt: str = Field(description=f"What to draw: 1 to {MAX_PROMPT_CHARACTERS} characters.")
    guidance_scale: float = Field(7.0, description="A number from 0 to 50.")
    num_inference_steps: Whole = Field(28, description="A whole number from 1 to 150.")
    seed: Seed = None
    width: Side = 512
    height: Side = 512
    negative_prompt: str = Field("", description="What to steer away from.")
    model: Name | None = Field(None, description="A name from /v1/models.")
    sampler: Sampler = None
    schedule: Schedule = None

    def to_core(self) -> GenerationRequest:
        return GenerationRequest(**dict(self))


@router.post(
    "/generate",
    response_class=Response,
    openapi_extra=openapi_body(GenerateRequest),
    responses={
        200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}},
        422: {"description": '`{"detail": [{"loc", "msg", "type"}]}`, naming the field.'},
        500: {"content": {"text/plain": {}}, "description": "The generation failed; says why."},
    },
)
async def generate(context: Context, request: Request) -> Response:
    """Draw one picture and answer its PNG bytes, whatever the Accept header asks for."""
    try:
        body = await read_json(request, GenerateRequest)
        job = await context.submission.submit(body.to_core())
    except InvalidRequest as error:
        if status_of(error) is not HTTPStatus.UNPROCESSABLE_ENTITY:
            raise
        return _validation_answer(error)
    try:
        job = await wanted_end(context, request, job)
    except ClientGone:
        return Response(status_code=499)  # nobody reads it
    if job.status is not JobStatus.SUCCEEDED:
        reason = f"Job {job.id} was canceled." if job.error is None else job.error.message
        return PlainTextResponse(reason, status_code=500, headers=_headers(job))
    picture = await context.tracking.image(job.id, 0)
    return Response(picture.data, media_type=picture.media_type, headers=_headers(job))


def _headers(job: Job) -> dict[str, str]:
    return {"X-Sfumato-Job": job.id, "X-Sfumato-Seed": str(job.settings.seed)}


def _validation_answer(error: InvalidRequest) -> Response:
    """The form in which FastAPI refuses a body, and beside it what the native API would say."""
    loc = ["body"] if error.field is None else ["body", error.field]
    detail = {"loc": loc, "msg": error.message, "type": error.code}
    body = {"detail": [detail], **error.as_dict()}
    return Response(
        orjson.dumps(body), HTTPStatus.UNPROCESSABLE_ENTITY, media_type="application/json"
    )
