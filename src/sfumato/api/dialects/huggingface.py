"""``POST / {"inputs": …}`` of the Hugging Face Inference Toolkit: a prompt in, a picture out.

The picture comes in the form that ``Accept`` asks for, or as JSON: its PNG in base64.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Literal

import orjson
from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field

from sfumato.api.body import checked
from sfumato.api.connection import ClientGone
from sfumato.api.context import ApiContext
from sfumato.api.dialects.words import in_their_words
from sfumato.api.fields import Name, Whole
from sfumato.api.problems import Refusal
from sfumato.api.requests import Seed, Side
from sfumato.api.wanting import failure, wanted_end
from sfumato.core.errors import EngineFailure, InvalidRequest
from sfumato.core.job import JobStatus
from sfumato.core.request import MAX_PROMPT_CHARACTERS, GenerationRequest, OutputFormat
from sfumato.core.samplers import resolve_sampler

_JSON = "application/json"
#: What may be asked for, and the files' format.
_FORMATS = {
    _JSON: OutputFormat.PNG,
    "*/*": OutputFormat.PNG,
    "image/*": OutputFormat.PNG,
    "image/png": OutputFormat.PNG,
    "image/jpeg": OutputFormat.JPEG,
    "image/jpg": OutputFormat.JPEG,
    "image/webp": OutputFormat.WEBP,
}
#: Asked for so, the picture comes as JSON.
_AS_JSON = (_JSON, "*/*")
_NAMES = {
    "prompt": "inputs",
    "sampler": "parameters.scheduler",
    **{
        name: f"parameters.{name}"
        for name in ("num_inference_steps", "guidance_scale", "seed", "width", "height")
    },
    "negative_prompt": "parameters.negative_prompt",
    "model": "parameters.model",
}


class TargetSize(BaseModel):
    """Another way to say width and height."""

    model_config = ConfigDict(extra="forbid", strict=True)

    width: Side = None
    height: Side = None


class Parameters(BaseModel):
    """What the toolkit's text-to-image pipeline takes."""

    model_config = ConfigDict(extra="forbid", strict=True)

    negative_prompt: str = Field("", description="What to steer away from.")
    num_inference_steps: Whole | None = Field(None, description="A whole number from 1 to 150.")
    guidance_scale: float | None = Field(None, description="A number from 0 to 50.")
    seed: Seed = None
    width: Side = None
    height: Side = None
    target_size: TargetSize | None = Field(
        None, description="An object with width and height, in place of those beside it."
    )
    scheduler: Name | None = Field(None, description="A sampler's name, A1111's or diffusers'.")
    num_images_per_prompt: Literal[1] | None = Field(
        None, description="1: one request, one picture."
    )
    model: Name | None = Field(None, description="A name from /v1/models; ours alone.")


class InferenceRequest(BaseModel):
    """A prompt and how to draw it."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"inputs": "a castle"}]}
    )

    inputs: str = Field(description=f"What to draw: 1 to {MAX_PROMPT_CHARACTERS} characters.")
    parameters: Parameters | None = Field(
        None, description="An object with num_inference_steps, seed …"
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Older clients' wishes for a hosted service's cache; not looked at.",
    )

    def to_core(self, output_format: OutputFormat) -> GenerationRequest:
        """Raises ``InvalidRequest``."""
        asked = self.parameters or Parameters.model_validate({})
        size = asked.target_size or TargetSize()
        sampler, schedule = None, None
        if asked.scheduler is not None:
            sampler, schedule = resolve_sampler(asked.scheduler, None)
        return GenerationRequest(
            self.inputs,
            negative_prompt=asked.negative_prompt,
            model=asked.model,
            width=size.width or asked.width,
            height=size.height or asked.height,
            num_inference_steps=asked.num_inference_steps,
            guidance_scale=asked.guidance_scale,
            seed=asked.seed,
            sampler=sampler,
            schedule=schedule,
            output_format=output_format,
        )


def form(refusal: Refusal) -> Response:
    """The toolkit's errors: ``{"error": …}``, and 400 for everything that a caller can mend."""
    status = refusal.status
    if status is HTTPStatus.UNPROCESSABLE_ENTITY:
        status = HTTPStatus.BAD_REQUEST
    body = orjson.dumps({"error": refusal.sentence})
    return Response(body, int(status), refusal.headers, media_type=_JSON)


async def infer(context: ApiContext, request: Request, data: Mapping[str, Any]) -> Response:
    """Draw what a body asks for. A caller that drops the connection takes its job back.

    Raises ``InvalidRequest``, or as submission does; why the job failed where there is no picture.
    """
    wanted = _wanted(request.headers.get("accept"))
    with in_their_words(_NAMES):
        asked = checked(InferenceRequest, data).to_core(_FORMATS[wanted])
        job = await context.submission.submit(asked)
    try:
        job = await wanted_end(context, request, job)
    except ClientGone:
        return Response(status_code=499)  # nobody reads it
    headers = {
        "X-Sfumato-Job": job.id,
        "X-Sfumato-Seed": str(job.settings.seed),
        "Vary": "Accept",
    }
    if job.status is not JobStatus.SUCCEEDED:
        if job.error is None:
            raise EngineFailure(f"Job {job.id} was canceled.")
        raise failure(job)
    picture = await context.tracking.image(job.id, 0)
    if wanted in _AS_JSON:
        text = base64.b64encode(picture.data).decode()
        return Response(orjson.dumps(text), headers=headers, media_type=_JSON)
    return Response(picture.data, headers=headers, media_type=picture.media_type)


def _wanted(accept: str | None) -> str:
    """The first of an ``Accept`` header that can be had. Raises ``InvalidRequest``."""
    if accept is None or not accept.strip():
        return _JSON
    for each in accept.split(","):
        media_type = each.partition(";")[0].strip().lower()
        if media_type in _FORMATS:
            return media_type
    raise InvalidRequest(
        "Accept asks for no form in which a picture can be had here.",
        field="Accept",
        accepted=_FORMATS,
    )
