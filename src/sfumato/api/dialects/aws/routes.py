"""The routes, but for v0's ``POST /``, which another API has too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, Field

from sfumato.api.connection import base_of
from sfumato.api.context import ApiContext, Context
from sfumato.api.dialects.aws import results
from sfumato.api.dialects.aws.accepting import submit
from sfumato.api.dialects.aws.checks import check_v1alpha1, check_v1alpha2, runtime_of
from sfumato.api.inputs import read_json_with_pictures
from sfumato.core.errors import InvalidRequest
from sfumato.core.job import Job
from sfumato.core.tasks import ParsedTask, parse_v0, parse_v1alpha2

_TEXT = {"text/plain": {"schema": {"type": "string"}}}
_MESSAGE = {
    "application/json": {
        "schema": {
            "type": "object",
            "properties": {"message": {"type": "string"}},
            "required": ["message"],
        }
    }
}
#: Of every route: what is wrong with a payload in plain text, everything else as a gateway says it.
_ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"content": {**_TEXT, **_MESSAGE}},
    "5XX": {"content": _MESSAGE},
}
router = APIRouter(tags=["dialects"], responses=_ERRORS)


class Accepted(BaseModel):
    """A task that was taken; each version of the API answers some of these."""

    id_task: str
    id: str | None = None
    task: str | None = None
    sd_model_checkpoint: str | None = None
    runtime: str | None = None
    output_location: str = Field(description="Its results lie below.")


def _schema(properties: Mapping[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "required": required}


_TEXT_SCHEMA = {"type": "string"}
#: As OpenAPI shows it; A1111's own parameters stand beside ``alwayson_scripts``.
V1ALPHA1_SCHEMA = _schema(
    {
        "alwayson_scripts": _schema(
            {
                "task": {"enum": ["text-to-image", "image-to-image"]},
                "sd_model_checkpoint": _TEXT_SCHEMA,
                "id_task": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,256}$"},
                "save_dir": _TEXT_SCHEMA,
            },
            ["task", "sd_model_checkpoint", "id_task"],
        ),
        "prompt": _TEXT_SCHEMA,
    },
    ["alwayson_scripts", "prompt"],
)
_V1ALPHA2_SCHEMA = _schema(
    {
        "task": _schema(
            {
                "metadata": _schema(
                    {
                        "id": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,256}$"},
                        "runtime": _TEXT_SCHEMA,
                        "tasktype": {"enum": ["text-to-image", "image-to-image"]},
                        "prefix": _TEXT_SCHEMA,
                        "context": {},
                    },
                    ["id", "runtime", "tasktype"],
                ),
                "content": _schema({"prompt": _TEXT_SCHEMA}, ["prompt"]),
            },
            ["metadata", "content"],
        )
    },
    ["task"],
)


def _body(schema: Mapping[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": dict(schema)}}
    return {"requestBody": {"required": True, "content": content}}


@router.post(
    "/v1alpha1",
    response_model=Accepted,
    response_model_exclude_none=True,
    openapi_extra=_body(V1ALPHA1_SCHEMA),
)
async def post_v1alpha1(context: Context, request: Request, response: Response) -> Accepted:
    """Take a task: A1111's parameters, and `alwayson_scripts` that say which task it is.

    The first runtime that serves its model draws it.
    """
    data = await _read(request)
    check_v1alpha1(data)
    task = parse_v0(data)
    job = await submit(context, task, runtime=None, base=base_of(request))
    response.headers["X-Sfumato-Job"] = job.id
    return _accepted(
        data["alwayson_scripts"], task, results.location(context, task, base=base_of(request))
    )


@router.post(
    "/v1alpha2",
    response_model=Accepted,
    response_model_exclude_none=True,
    openapi_extra=_body(_V1ALPHA2_SCHEMA),
)
async def post_v1alpha2(context: Context, request: Request, response: Response) -> Accepted:
    """Take a task: `metadata` that say which task it is, and `content`, A1111's parameters."""
    data = await _read(request)
    check_v1alpha2(data)
    task = parse_v1alpha2(data)
    runtime = runtime_of(task.runtime, context.runtimes, field="metadata.runtime")
    job = await submit(context, task, runtime=runtime, base=base_of(request))
    response.headers["X-Sfumato-Job"] = job.id
    return Accepted(
        id_task=task.id,
        id=task.id,
        runtime=task.runtime,
        output_location=results.location(context, task, base=base_of(request)),
    )


async def accept_v0(
    context: ApiContext, request: Request, data: Mapping[str, Any]
) -> tuple[Accepted, Job]:
    """A task of ``POST /``. Raises ``InvalidRequest``, or as ``submit`` does."""
    check_v1alpha1(data)
    runtime = runtime_of(data.get("sdname"), context.runtimes, field="sdname")
    task = parse_v0(data)
    job = await submit(context, task, runtime=runtime, base=base_of(request))
    return _accepted(
        data["alwayson_scripts"], task, results.location(context, task, base=base_of(request))
    ), job


@router.get(
    "/task-results/{key:path}",
    response_model=results.TaskReport,
    responses={
        200: {
            "content": {
                "image/png": {"schema": {"type": "string", "format": "binary"}},
            },
            "description": "How the task is; below it, its document or one of its pictures.",
        }
    },
)
async def get_results(
    context: Context, request: Request, key: Annotated[str, Path(max_length=4096)]
) -> Response | results.TaskReport:
    """How a task of the caller's own is, by its `output_location`, and what lies below that."""
    key = key.strip("/")
    if "." in key.rpartition("/")[2]:
        return await results.file_of(context, key, base=base_of(request))
    return await results.report_of(context, key, base=base_of(request))


def _accepted(header: Mapping[str, Any], task: ParsedTask, location: str) -> Accepted:
    return Accepted(
        id_task=task.id,
        task=header["task"],
        sd_model_checkpoint=header["sd_model_checkpoint"],
        output_location=location,
    )


async def _read(request: Request) -> Mapping[str, Any]:
    data = await read_json_with_pictures(request)
    if not isinstance(data, dict):
        raise InvalidRequest("the body is no JSON object")
    return data
