"""``/v2``: the Open Inference Protocol over HTTP, with binary tensors.

A picture is an element of the output ``image``, of BYTES: the file, as it is stored. The service
decodes no pictures, so there are no outputs of pixels.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel

from sfumato import __version__
from sfumato.api.body import as_object, body_schema, checked, read_buffer
from sfumato.api.catalog import known_model
from sfumato.api.connection import ClientGone
from sfumato.api.context import Context, Services
from sfumato.api.dialects.kserve.drawing import drawn
from sfumato.api.dialects.kserve.errors import RESPONSES
from sfumato.api.dialects.kserve.tensors import (
    BYTES,
    LENGTH_HEADER,
    InferRequest,
    Output,
    encoded,
    read_inputs,
)
from sfumato.api.health import not_ready
from sfumato.api.inputs import MAX_JOB_BYTES, loads_with_pictures
from sfumato.api.requests import JobRequest
from sfumato.core.errors import InvalidRequest, ModelRefused, NotFound
from sfumato.core.models import ModelInfo, ModelKind

router = APIRouter(prefix="/v2", tags=["dialects"], responses=RESPONSES)
#: Of every model; a catalogue's names have no versions beside them.
VERSION = "1"
_BINARY = "application/octet-stream"
#: What can be asked for, by the names of ``POST /v1/jobs``, and the datatype that tells of it.
INPUTS: Mapping[str, str] = {
    "prompt": BYTES,
    "negative_prompt": BYTES,
    "width": "INT32",
    "height": "INT32",
    "num_inference_steps": "INT32",
    "guidance_scale": "FP32",
    "seed": "UINT64",
    "num_images": "INT32",
    "sampler": BYTES,
    "schedule": BYTES,
    "output_format": BYTES,
    "output_quality": "INT32",
    "clip_skip": "INT32",
    "init_image": BYTES,
    "strength": "FP32",
    "vae": BYTES,
}
OUTPUTS: Mapping[str, str] = {"image": BYTES, "seed": "UINT64"}


class ServerMetadata(BaseModel):
    name: str
    version: str
    extensions: list[str]


class ServerLive(BaseModel):
    live: bool


class ServerReady(BaseModel):
    ready: bool


class ModelNames(BaseModel):
    models: list[str]


class ModelReady(BaseModel):
    name: str
    ready: bool


class TensorMetadata(BaseModel):
    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


@router.get("")
async def get_server() -> ServerMetadata:
    """What serves here, and which of the protocol's extensions it knows."""
    return ServerMetadata(name="sfumato", version=__version__, extensions=["binary_tensor_data"])


@router.get("/health/live")
async def get_live() -> ServerLive:
    """The process lives."""
    return ServerLive(live=True)


@router.get("/health/ready", responses={503: {"model": ServerReady}})
async def get_ready(services: Services, response: Response) -> ServerReady:
    """Whether a request sent now would be accepted; a worker starts when one comes."""
    ready = not await not_ready(services)
    response.status_code = 200 if ready else 503
    return ServerReady(ready=ready)


@router.get("/models")
async def list_models(context: Context) -> ModelNames:
    """The models that draw."""
    models = context.catalog.list()
    return ModelNames(models=[model.name for model in models if model.kind is ModelKind.BASE])


@router.get("/models/{name:path}/versions/{version}/ready", responses={503: {"model": ModelReady}})
async def get_version_ready(
    context: Context, name: str, version: str, response: Response
) -> ModelReady:
    """As without the version."""
    _check_version(name, version)
    return await get_model_ready(context, name, response)


@router.get("/models/{name:path}/ready", responses={503: {"model": ModelReady}})
async def get_model_ready(context: Context, name: str, response: Response) -> ModelReady:
    """Whether a request may name the model; a worker loads it when one does."""
    try:
        await known_model(context.catalog, name)
    except ModelRefused:
        response.status_code = 503
        return ModelReady(name=name, ready=False)
    return ModelReady(name=name, ready=True)


@router.get("/models/{name:path}/versions/{version}")
async def get_version(context: Context, name: str, version: str) -> ModelMetadata:
    """As without the version."""
    _check_version(name, version)
    return await get_model(context, name)


@router.get("/models/{name:path}")
async def get_model(context: Context, name: str) -> ModelMetadata:
    """What the model takes and answers. Every input but the prompt may be left out; -1 is the number
    of prompts, of which the other inputs have as many elements, or one."""
    model = await known_model(context.catalog, name)
    inputs, outputs = (
        [TensorMetadata(name=each, datatype=kind, shape=[-1]) for each, kind in tensors.items()]
        for tensors in (INPUTS, OUTPUTS)
    )
    return ModelMetadata(
        name=model.name, versions=[VERSION], platform="sfumato", inputs=inputs, outputs=outputs
    )


_Length = Annotated[
    str | None,
    Header(alias=LENGTH_HEADER, description="How long the JSON is, where binary data follow it."),
]
_INFER: dict[str, Any] = {
    "response_class": Response,
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": body_schema(InferRequest)},
                _BINARY: {"schema": {"type": "string", "format": "binary"}},
            },
        }
    },
    "responses": {
        200: {
            "content": {
                "application/json": {"schema": {"type": "object"}},
                _BINARY: {"schema": {"type": "string", "format": "binary"}},
            }
        }
    },
}


@router.post("/models/{name:path}/versions/{version}/infer", **_INFER)
async def infer_version(
    context: Context, request: Request, name: str, version: str, json_length: _Length = None
) -> Response:
    """As without the version."""
    _check_version(name, version)
    return await infer(context, request, name, json_length)


@router.post("/models/{name:path}/infer", **_INFER)
async def infer(
    context: Context, request: Request, name: str, json_length: _Length = None
) -> Response:
    """Draw for every prompt, and answer the files of all pictures and the seeds of each."""
    model = await known_model(context.catalog, name)
    asked, inputs = await _read(request, json_length)
    binary = _wanted(asked)
    try:
        found = await drawn(context, request, _bodies(asked, inputs, model))
    except ClientGone:
        return Response(status_code=499)  # nobody reads it
    tensors = {
        "image": Output("image", BYTES, [file for _, files in found for file in files]),
        "seed": Output(
            "seed", OUTPUTS["seed"], [image.seed for job, _ in found for image in job.images]
        ),
    }
    head = {"model_name": model.name, "model_version": VERSION}
    if asked.id is not None:
        head["id"] = asked.id
    outputs = [(tensors[each], is_binary) for each, is_binary in binary.items()]
    body, length = await asyncio.to_thread(encoded, head, outputs)
    headers = {"X-Sfumato-Job": ",".join(job.id for job, _ in found)}
    if any(binary.values()):
        return Response(body, headers={**headers, LENGTH_HEADER: str(length)}, media_type=_BINARY)
    return Response(body, headers=headers, media_type="application/json")


async def _read(
    request: Request, json_length: str | None
) -> tuple[InferRequest, dict[str, list[Any]]]:
    """Whatever its Content-Type, which the protocol's clients set as they please."""
    body = memoryview(await read_buffer(request, limit=MAX_JOB_BYTES))
    length = len(body)
    if json_length is not None:
        if not (json_length.isascii() and json_length.isdigit() and len(json_length) < 10):
            raise InvalidRequest(f"{LENGTH_HEADER} is no number.", field=LENGTH_HEADER)
        length = int(json_length)
        if length > len(body):
            raise InvalidRequest(f"{LENGTH_HEADER} is more than the body has.", field=LENGTH_HEADER)
    data = as_object(await loads_with_pictures(bytes(body[:length])))
    asked = checked(InferRequest, data)
    return asked, await asyncio.to_thread(read_inputs, asked, body[length:])


def _wanted(asked: InferRequest) -> dict[str, bool]:
    """The outputs by their names, and whether each is to be binary."""
    all_binary = asked.parameters.get("binary_data_output", False) is True
    if not asked.outputs:
        return dict.fromkeys(OUTPUTS, all_binary)
    wanted = {}
    for output in asked.outputs:
        if output.name not in OUTPUTS:
            raise InvalidRequest(
                f"There is no output {output.name!r}. A picture is a file, not pixels.",
                field="outputs",
                accepted=list(OUTPUTS),
            )
        for name in output.parameters:
            if name != "binary_data":
                raise InvalidRequest(
                    f"There is no parameter {name[:64]!r} of an output.",
                    field=f"outputs.{output.name}",
                    accepted="binary_data",
                )
        wanted[output.name] = output.parameters.get("binary_data", all_binary) is True
    return wanted


def _bodies(
    asked: InferRequest, inputs: Mapping[str, list[Any]], model: ModelInfo
) -> list[JobRequest]:
    """A request for each prompt."""
    shared = {name: [value] for name, value in asked.parameters.items()}
    shared.pop("binary_data_output", None)
    for name in shared:
        if name in inputs:
            raise InvalidRequest(
                f"{name} is given twice, as an input and as a parameter.", field=f"inputs.{name}"
            )
    given = {**shared, **inputs}
    for name in given:
        if name not in INPUTS:
            raise InvalidRequest(
                f"There is no input {name[:64]!r}.", field="inputs", accepted=list(INPUTS)
            )
    count = len(given.get("prompt", ()))
    for name, elements in given.items():
        if len(elements) not in (1, count):
            raise InvalidRequest(
                f"{name} has {len(elements)} elements.",
                field=f"inputs.{name}",
                accepted=f"one, or as many as there are prompts: {count}",
            )
    return [
        checked(
            JobRequest,
            {
                "model": model.name,
                **{
                    name: _value(name, elements[number % len(elements)])
                    for name, elements in given.items()
                },
            },
        )
        for number in range(max(1, count))
    ]


def _value(name: str, element: Any) -> Any:
    """An element as JSON would have it: text of BYTES, and a picture's file in base64."""
    if not isinstance(element, bytes):
        return element
    try:
        return element.decode()
    except UnicodeDecodeError:
        if name != "init_image":
            raise InvalidRequest(
                f"{name} is no text in UTF-8.", field=f"inputs.{name}", accepted="UTF-8"
            ) from None
        return base64.b64encode(element).decode()


def _check_version(name: str, version: str) -> None:
    if version != VERSION:
        raise NotFound(
            f"{name[:64]!r} has no version {version[:64]!r}.", field="version", accepted=VERSION
        )
