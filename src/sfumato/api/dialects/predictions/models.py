"""The catalogue as Replicate's models, each with one version; and files for a model's input."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from sfumato.api.body import read_buffer
from sfumato.api.catalog import known_model
from sfumato.api.connection import base_of
from sfumato.api.context import ApiContext, Context
from sfumato.api.dialects.predictions.asked import model_of, slug
from sfumato.api.dialects.predictions.document import PROBLEMS, SCHEMAS
from sfumato.api.dialects.predictions.views import OWNER, moment
from sfumato.api.multipart import MEDIA_TYPE, parts_of
from sfumato.api.problems import InvalidMultipart
from sfumato.core.errors import NotFound
from sfumato.core.inputs import MAX_INPUT_BYTES, read_input
from sfumato.core.models import ModelInfo

router = APIRouter(prefix="/v1", tags=["dialects"], responses=PROBLEMS)
#: The version of Cog's schema of inputs and outputs that a model's version carries.
_COG_VERSION = "0.17.0"
#: The catalogue does not know when a model was made; Replicate's clients want a date.
_UNKNOWN_TIME = "1970-01-01T00:00:00Z"
_PART = "content"
#: Of the form around the file.
_MAX_FORM_BYTES = 64 << 10
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            MEDIA_TYPE: {
                "schema": {
                    "type": "object",
                    "properties": {_PART: {"type": "string", "format": "binary"}},
                    "required": [_PART],
                }
            }
        },
    }
}


class VersionView(BaseModel):
    """What of a model takes predictions: Cog's schema of its input and output."""

    id: str = Field(description="The model's name in the catalogue.")
    created_at: str
    cog_version: str
    openapi_schema: dict[str, Any]


class VersionList(BaseModel):
    previous: None = None
    next: None = None
    results: list[VersionView]


class ReplicateModel(BaseModel):
    """A model as Replicate shows it. What this service does not know is null or 0."""

    url: str
    owner: str
    name: str
    description: str
    visibility: str = "public"
    github_url: None = None
    paper_url: None = None
    license_url: None = None
    run_count: int = 0
    cover_image_url: None = None
    default_example: None = None
    latest_version: VersionView


class UploadedFile(BaseModel):
    """A picture for a prediction's input; ``urls.get`` is what to give there."""

    id: str
    name: str
    content_type: str
    size: int
    etag: str
    checksums: dict[str, str]
    metadata: dict[str, Any]
    created_at: str
    expires_at: str | None
    urls: dict[str, str]


@router.get(f"/models/{OWNER}/{{name}}")
async def get_model(context: Context, request: Request, name: str) -> ReplicateModel:
    """A model of the catalogue, as Replicate's clients know models."""
    model = await _model(context, f"{OWNER}/{name}")
    return ReplicateModel(
        url=f"{base_of(request)}/v1/models/{OWNER}/{slug(model.name)}",
        owner=OWNER,
        name=slug(model.name),
        description=model.description,
        latest_version=_version(model),
    )


@router.get("/models/{owner}/{name}/versions")
async def list_versions(context: Context, owner: str, name: str) -> VersionList:
    """The one version of a model, whoever its owner."""
    return VersionList(results=[_version(await _model(context, f"{owner}/{name}"))])


@router.get("/models/{owner}/{name}/versions/{version:path}")
async def get_version(context: Context, owner: str, name: str, version: str) -> VersionView:
    """The version of a model, by what `versions` calls it."""
    model = await _model(context, f"{owner}/{name}")
    if version != model.name:
        raise NotFound(f"The model {name[:64]!r} has no version {version[:64]!r}.")
    return _version(model)


@router.post("/files", status_code=201, openapi_extra=_FORM)
async def upload_file(context: Context, request: Request) -> UploadedFile:
    """A picture as an address for `input`: it holds the picture itself, so that nothing is kept.

    Replicate's Python client does this for every file that an input brings along.
    """
    body = await read_buffer(request, limit=MAX_INPUT_BYTES + _MAX_FORM_BYTES)
    parts = parts_of(body, request.headers.get("content-type", ""))
    if _PART not in parts:
        raise InvalidMultipart(
            f"The body has no part {_PART!r}.", field=_PART, accepted="a part with the file"
        )
    return await asyncio.to_thread(_uploaded, bytes(parts[_PART]), context.clock.now())


def _uploaded(data: bytes, now: float) -> UploadedFile:
    image = read_input(data, field=_PART)
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    encoded = base64.b64encode(data).decode()
    return UploadedFile(
        id=image.sha256,
        name=image.sha256,
        content_type=image.media_type,
        size=len(data),
        etag=md5,
        checksums={"sha256": image.sha256, "md5": md5},
        metadata={},
        created_at=moment(now) or _UNKNOWN_TIME,
        expires_at=None,
        urls={"get": f"data:{image.media_type};base64,{encoded}"},
    )


async def _model(context: ApiContext, named: str) -> ModelInfo:
    return await known_model(context.catalog, await model_of(context.catalog, named))


def _version(model: ModelInfo) -> VersionView:
    return VersionView(
        id=model.name,
        created_at=_UNKNOWN_TIME,
        cog_version=_COG_VERSION,
        openapi_schema={
            "openapi": "3.0.2",
            "info": {"title": "Cog", "version": "0.1.0"},
            "paths": {},
            "components": {"schemas": SCHEMAS},
        },
    )
