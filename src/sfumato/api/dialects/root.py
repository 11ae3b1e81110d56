"""``POST /``, which two APIs have: the body tells which of them its sender speaks."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from fastapi import APIRouter, Request, Response

from sfumato.api.body import body_schema
from sfumato.api.context import Context
from sfumato.api.dialects import aws, huggingface
from sfumato.api.dialects.aws.routes import V1ALPHA1_SCHEMA, Accepted
from sfumato.api.inputs import read_json_with_pictures
from sfumato.api.problems import Form, Refusal
from sfumato.core.errors import InvalidRequest, SfumatoError

router = APIRouter(tags=["dialects"])

_V0_SCHEMA = {
    **V1ALPHA1_SCHEMA,
    "properties": {**V1ALPHA1_SCHEMA["properties"], "sdname": {"type": "string"}},
    "required": [*V1ALPHA1_SCHEMA["required"], "sdname"],
}
_ERROR_SCHEMA = {
    "type": "object",
    "properties": {"error": {"type": "string"}, "message": {"type": "string"}},
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}


def form(refusal: Refusal) -> Response:
    """An error before it is known who asks: both find their member."""
    body = orjson.dumps({"error": refusal.detail, "message": refusal.detail})
    return Response(body, int(refusal.status), refusal.headers, media_type="application/json")


forms: Mapping[str, Form] = {"/": form}


@router.post(
    "/",
    response_class=Response,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "anyOf": [body_schema(huggingface.InferenceRequest), _V0_SCHEMA],
                    }
                }
            },
        }
    },
    responses={
        200: {
            "description": "The picture, or a task that was taken.",
            "content": {
                "application/json": {
                    "schema": {"anyOf": [{"type": "string"}, body_schema(Accepted)]}
                },
                "image/png": _BINARY,
                "image/jpeg": _BINARY,
                "image/webp": _BINARY,
            },
        },
        "4XX": {
            "content": {
                "application/json": {"schema": _ERROR_SCHEMA},
                "text/plain": {"schema": {"type": "string"}},
            }
        },
        "5XX": {"content": {"application/json": {"schema": _ERROR_SCHEMA}}},
    },
)
async def post_root(context: Context, request: Request) -> Response:
    """Draw a picture: `inputs`, as the Hugging Face Inference Toolkit has it; or take a task:
    `alwayson_scripts` and `sdname`, as Stable Diffusion on EKS has it."""
    data = await read_json_with_pictures(request)
    if isinstance(data, dict) and "inputs" in data:
        try:
            return await huggingface.infer(context, request, data)
        except SfumatoError as error:
            return huggingface.form(Refusal.of(error))
    if isinstance(data, dict) and ("alwayson_scripts" in data or "sdname" in data):
        try:
            accepted, job = await aws.accept_v0(context, request, data)
        except SfumatoError as error:
            return aws.form(Refusal.of(error))
        answer = accepted.model_dump(exclude_none=True)
        return Response(
            orjson.dumps(answer), headers={"X-Sfumato-Job": job.id}, media_type="application/json"
        )
    raise InvalidRequest(
        "POST / takes {'inputs': '<prompt>', 'parameters': {…}}, or A1111's parameters with "
        "'alwayson_scripts' and 'sdname'; this is neither.",
        accepted="inputs, or alwayson_scripts with sdname",
    )
