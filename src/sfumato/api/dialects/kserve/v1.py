"""``POST /v1/models/{name}:predict``: KServe's first protocol, and two older forms of its body.

``instances`` in, ``predictions`` out, a picture in base64 each, as for Vertex AI's predictors; or
``prompt`` and ``parameters`` in and PNG bytes out, as CoreWeave's predictor for KServe had it. The
protocol's ``GET /v1/models/{name}`` with ``name`` and ``ready`` is the native one.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from sfumato.api.body import as_object, body_schema, checked
from sfumato.api.catalog import known_model
from sfumato.api.connection import ClientGone
from sfumato.api.context import ApiContext, Context
from sfumato.api.dialects.kserve.drawing import drawn
from sfumato.api.dialects.kserve.errors import RESPONSES, ErrorsOfKServe
from sfumato.api.inputs import read_json_with_pictures
from sfumato.api.requests import JobRequest
from sfumato.core.errors import InvalidRequest

router = APIRouter(tags=["dialects"], route_class=ErrorsOfKServe, responses=RESPONSES)
_SHAPES = "{'instances': [{'prompt': '…'}]}, or {'prompt': '…'}; both may have 'parameters'"


class Predictions(BaseModel):
    """As many as there were instances, in their order."""

    predictions: list[str] = Field(description="Pictures in base64.")


def _body() -> dict[str, Any]:
    instance = body_schema(JobRequest)
    parameters = {**instance, "description": "What every instance gets that does not say it."}
    parameters = {name: value for name, value in parameters.items() if name != "required"}
    many = {
        "type": "object",
        "properties": {
            "instances": {"type": "array", "items": instance, "minItems": 1},
            "parameters": parameters,
        },
        "required": ["instances"],
        "additionalProperties": False,
    }
    one = {
        "type": "object",
        "properties": {"prompt": {"type": "string"}, "parameters": parameters},
        "required": ["prompt"],
        "additionalProperties": False,
    }
    content = {"application/json": {"schema": {"oneOf": [many, one]}}}
    return {"requestBody": {"required": True, "content": content}}


@router.post(
    "/v1/models/{name:path}:predict",
    response_model=Predictions,
    openapi_extra=_body(),
    responses={
        200: {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}},
    },
)
async def predict(context: Context, request: Request, name: str) -> Response:
    """Draw a picture for every instance, with the fields of `POST /v1/jobs`; or one for a body that
    has a `prompt` itself, and answer its bytes."""
    model = (await known_model(context.catalog, name)).name
    data = as_object(await read_json_with_pictures(request), accepted=_SHAPES)
    try:
        if "instances" in data:
            return await _many(context, request, _instances(data, model))
        return await _one(context, request, _single(data, model))
    except ClientGone:
        return Response(status_code=499)  # nobody reads it


async def _many(context: ApiContext, request: Request, bodies: Sequence[JobRequest]) -> Response:
    found = await drawn(context, request, bodies)
    predictions = await asyncio.to_thread(
        lambda: [base64.b64encode(pictures[0]).decode() for _, pictures in found]
    )
    jobs = ",".join(job.id for job, _ in found)
    return Response(
        Predictions(predictions=predictions).model_dump_json(),
        media_type="application/json",
        headers={"X-Sfumato-Job": jobs},
    )


async def _one(context: ApiContext, request: Request, body: JobRequest) -> Response:
    [(job, pictures)] = await drawn(context, request, [body])
    headers = {"X-Sfumato-Job": job.id, "X-Sfumato-Seed": str(job.settings.seed)}
    return Response(pictures[0], media_type=job.images[0].media_type, headers=headers)


def _instances(data: Mapping[str, Any], model: str) -> list[JobRequest]:
    _check_names(data, {"instances", "parameters"})
    instances = data["instances"]
    if not isinstance(instances, list) or not all(isinstance(each, dict) for each in instances):
        raise InvalidRequest(
            "instances must be a list of objects.", field="instances", accepted=_SHAPES
        )
    shared = _parameters(data)
    return [
        _asked({**shared, **each}, model, place=f"instances.{number}")
        for number, each in enumerate(instances)
    ]


def _single(data: Mapping[str, Any], model: str) -> JobRequest:
    _check_names(data, {"prompt", "parameters"})
    given = {**_parameters(data), **({"prompt": data["prompt"]} if "prompt" in data else {})}
    return _asked(given, model, place="")


def _asked(given: Mapping[str, Any], model: str, *, place: str) -> JobRequest:
    """Args:
    place: of it in the body, for the error.
    """
    try:
        return _checked(given, model)
    except InvalidRequest as error:
        where = f"{place}: {error.message}" if place else error.message
        raise type(error)(where, field=error.field, accepted=error.accepted) from None


def _checked(given: Mapping[str, Any], model: str) -> JobRequest:
    body = checked(JobRequest, given)
    if body.model not in (None, model):
        raise InvalidRequest(
            "model is another than the path's.", field="model", accepted=f"{model}, or none"
        )
    if body.num_images != 1:
        raise InvalidRequest(
            "num_images must be 1: a prediction is one picture.",
            field="num_images",
            accepted="1; more instances for more pictures",
        )
    return body.model_copy(update={"model": model})


def _parameters(data: Mapping[str, Any]) -> dict[str, Any]:
    given = data.get("parameters")
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise InvalidRequest(
            "parameters must be an object.", field="parameters", accepted="a JSON object"
        )
    return given


def _check_names(data: Mapping[str, Any], known: set[str]) -> None:
    for name in data:
        if name not in known:
            raise InvalidRequest(
                f"There is no field {name[:64]!r}.", field=name[:64], accepted=_SHAPES
            )
