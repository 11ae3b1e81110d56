"""The catalogue's models for workers elsewhere: which files each has, and their bytes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Annotated
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from sfumato.api.context import Services
from sfumato.api.problems import RangeNotSatisfiable
from sfumato.api.schemas import PROBLEMS
from sfumato.api.worker_calls import URL_SECONDS, Caller, CallerDep
from sfumato.api.worker_schemas import ModelFilesView, ModelFileView
from sfumato.core.errors import Forbidden, NotFound
from sfumato.core.models import ModelFile, ModelInfo, ModelKind

#: Bytes that are read and sent at once.
_CHUNK = 1 << 20
_RANGE = re.compile(r"bytes=(\d{1,15})-(\d{1,15})?", re.ASCII)

router = APIRouter(prefix="/v1/worker", tags=["worker"], responses=PROBLEMS)


@router.get("/models/{name:path}")
async def list_files(
    context: Services, caller: CallerDep, name: str, kind: ModelKind = ModelKind.BASE
) -> ModelFilesView:
    """A model's files, with where each can be read."""
    model = await caller.parts.models.marked(_model(context, caller, name, kind))
    return ModelFilesView(
        name=model.name,
        files=[
            ModelFileView(
                path=file.path,
                size_bytes=file.size_bytes,
                sha256=file.sha256,
                version=file.version,
                url=await _url(caller, model, file),
            )
            for file in model.files
        ],
    )


async def _url(caller: Caller, model: ModelInfo, file: ModelFile) -> str:
    url = await caller.parts.models.download_url(model, file, expires=URL_SECONDS)
    query = urlencode({"kind": model.kind.value, "path": file.path})
    return url or f"/v1/worker/model-files/{quote(model.name)}?{query}"


@router.get("/model-files/{name:path}", response_class=StreamingResponse)
async def get_file(
    context: Services,
    caller: CallerDep,
    name: str,
    *,
    path: Annotated[str, Query(max_length=1000)],
    kind: ModelKind = ModelKind.BASE,
    range_header: Annotated[str | None, Header(alias="Range")] = None,
) -> StreamingResponse:
    """One file's bytes, or a range of them, for a service whose models lie in no bucket."""
    model = _model(context, caller, name, kind)
    file = next((file for file in model.files if file.path == path), None)
    if file is None:
        raise NotFound(f"The model {model.name!r} has no such file.")
    start, end = _span(range_header, file.size_bytes)
    headers = {"Content-Length": str(end - start), "Accept-Ranges": "bytes"}
    if range_header is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size_bytes}"
    return StreamingResponse(
        _pieces(caller, model, file, start, end),
        status_code=200 if range_header is None else 206,
        media_type="application/octet-stream",
        headers=headers,
    )


async def _pieces(
    caller: Caller, model: ModelInfo, file: ModelFile, start: int, end: int
) -> AsyncIterator[bytes]:
    for position in range(start, end, _CHUNK):
        yield await caller.parts.models.read(model, file, position, min(end, position + _CHUNK))


def _model(context: Services, caller: Caller, name: str, kind: ModelKind) -> ModelInfo:
    """What is used beside a base model is for every worker, as any request may name it."""
    model = context.catalog.get(name, kind)
    if kind is ModelKind.BASE and not any(
        runtime.serves(model.name)
        for runtime in context.runtimes
        if runtime.name in caller.token.runtimes
    ):
        raise Forbidden(f"The runtimes of this worker token do not serve {model.name!r}.")
    return model


def _span(header: str | None, size: int) -> tuple[int, int]:
    """The first byte asked for, and the one after the last."""
    if header is None:
        return 0, size
    asked = _RANGE.fullmatch(header)
    if asked is None or int(asked[1]) >= size or (asked[2] and int(asked[2]) < int(asked[1])):
        raise RangeNotSatisfiable(
            f"The file has {size} bytes.", field="Range", accepted="bytes=FIRST-LAST"
        )
    return int(asked[1]), size if asked[2] is None else min(size, int(asked[2]) + 1)
