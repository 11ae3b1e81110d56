"""A job's request with its pictures, out of a JSON or a multipart body.

A picture is given as a data URL, in bare base64, as an address to fetch it from, as a stored picture
of an earlier job, or as a part of a multipart body. It is read once, and what its header says is all that is looked at.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar

from fastapi import Request

from sfumato.api.body import (
    MAX_BODY_BYTES,
    Buffer,
    body_schema,
    check_media_type,
    loads,
    parse,
    read_buffer,
)
from sfumato.api.multipart import MEDIA_TYPE, parts_of
from sfumato.api.problems import BodyTooLarge, InvalidMultipart
from sfumato.api.requests import JobRequest
from sfumato.core.errors import InvalidRequest, NotFound
from sfumato.core.extras import MAX_CONTROLS
from sfumato.core.inputs import MAX_INPUT_BYTES, InputImage, decode_input, read_input
from sfumato.core.ports import WebClient
from sfumato.core.request import GenerationRequest
from sfumato.core.webhooks import Webhook
from sfumato.services.tracking import Tracking

#: All of a body: the largest picture in base64, which is a third longer, and some more beside it.
MAX_JOB_BYTES = 48 << 20
#: The part of a multipart body that holds the request.
REQUEST_PART = "request"
#: An init image, a mask and the ControlNets'.
_MAX_PICTURES = 2 + MAX_CONTROLS
_ADDRESS = re.compile(r"(?!data:)[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_ACCEPTED = (
    "a picture as a data URL or in base64, its https address, {'job': '<id>', 'index': 0} for that of an earlier job, "
    "or {'part': '<name>'} for a part of a multipart/form-data body"
)

T = TypeVar("T")


class Asked(NamedTuple):
    """A request, the files of its pictures by their SHA-256, and where to tell of its job."""

    request: GenerationRequest
    files: dict[str, bytes]
    webhook: Webhook | None


async def read_job(request: Request, tracking: Tracking, web: WebClient) -> Asked:
    """What a body asks for.

    Raises ``UnsupportedMediaType``, ``BodyTooLarge``, ``InvalidJson``, ``InvalidMultipart``,
    ``InvalidRequest``, or ``NotFound`` for an earlier job's picture that is not there.
    """
    body, parts = await _read_body(request)
    return await asked_of(body, parts, tracking, web)


async def asked_of(
    body: JobRequest, parts: Mapping[str, memoryview], tracking: Tracking, web: WebClient
) -> Asked:
    """What a request asks for, with its pictures from wherever they are.

    Args:
        parts: of the body that it came in, by their names; each must be a picture of the request.

    Raises ``InvalidMultipart``, ``InvalidRequest``, or ``NotFound`` for an earlier job's picture
    that is not there.
    """
    given = body.pictures()
    if len(given) > _MAX_PICTURES:
        raise InvalidRequest(
            f"The request brings {len(given)} pictures.",
            field="controls",
            accepted=f"at most {MAX_CONTROLS}",
        )
    _check_parts(parts, given)
    images: dict[str, InputImage] = {}
    files: dict[str, bytes] = {}
    for field, value in given.items():
        images[field], data = await read_picture(value, tracking, web, field=field, parts=parts)
        files[images[field].sha256] = data
    webhook = None if body.webhook is None else body.webhook.to_core()
    if webhook is not None:
        web.check(webhook.url, field="webhook.url")
    return Asked(body.to_core(images), files, webhook)


async def read_picture(
    value: Any,
    tracking: Tracking,
    web: WebClient,
    *,
    field: str,
    parts: Mapping[str, memoryview] | None = None,
) -> tuple[InputImage, bytes]:
    """A picture that a body names in any of the forms, and its file.

    Raises ``InvalidRequest`` or ``NotFound``.
    """
    if is_address(value):
        data = await web.read(value, field=field, limit=MAX_INPUT_BYTES)
    else:
        data = await _file_of(value, parts or {}, tracking, field=field)
    return await _apart(len(data), partial(read_input, data, field=field)), data


async def read_json_with_pictures(request: Request) -> Any:
    """The JSON of a body whose texts may be pictures.

    Raises ``UnsupportedMediaType``, ``BodyTooLarge`` or ``InvalidJson``.
    """
    check_media_type(request)
    return await loads_with_pictures(await read_buffer(request, limit=MAX_JOB_BYTES))


async def loads_with_pictures(body: Buffer) -> Any:
    """:func:`loads`, of a body whose texts may be pictures.

    Raises ``BodyTooLarge`` or ``InvalidJson``.
    """

    def read() -> Any:
        _check_beside_pictures(body)
        return loads(body)

    return await _apart(len(body), read)


def openapi_job_body() -> dict[str, Any]:
    """``openapi_extra`` of the route that reads its body through :func:`read_job`."""
    schema = body_schema(JobRequest)
    form = {
        "type": "object",
        "properties": {REQUEST_PART: schema},
        "required": [REQUEST_PART],
        "additionalProperties": {
            "type": "string",
            "format": "binary",
            "description": "A picture's file, under the name that the request has in `part`.",
        },
    }
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": schema},
                MEDIA_TYPE: {
                    "schema": form,
                    "encoding": {REQUEST_PART: {"contentType": "application/json"}},
                },
            },
        }
    }


async def _read_body(request: Request) -> tuple[JobRequest, Mapping[str, memoryview]]:
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != MEDIA_TYPE:
        check_media_type(request)
        body = await read_buffer(request, limit=MAX_JOB_BYTES)
        return await _apart(len(body), lambda: _parse(body)), {}
    body = await read_buffer(request, limit=MAX_JOB_BYTES)
    parts = await _apart(len(body), lambda: parts_of(body, content_type))
    try:
        described = parts.pop(REQUEST_PART)
    except KeyError:
        raise InvalidMultipart(
            f"The body has no part {REQUEST_PART!r}.",
            field=REQUEST_PART,
            accepted="a part of JSON, as the body would be without files",
        ) from None
    return await _apart(len(described), lambda: _parse(described)), parts


def _parse(body: Buffer) -> JobRequest:
    _check_beside_pictures(body)
    return parse(JobRequest, body)


def _check_beside_pictures(body: Buffer) -> None:
    """Only pictures may make it long: a text of 48 MiB is one object, a list of so many bytes would
    be millions of them."""
    if len(body) > MAX_BODY_BYTES:
        text = bytes(body) if isinstance(body, memoryview) else body
        if sum(map(text.count, (b",", b"[", b"{"))) > MAX_BODY_BYTES // 16:
            raise BodyTooLarge(
                f"The body is larger than {MAX_BODY_BYTES:,} bytes without its pictures.",
                accepted=f"at most {MAX_BODY_BYTES >> 20} MiB beside the pictures",
            )


async def _apart(size: int, work: Callable[[], T]) -> T:
    """What takes long for so many bytes must not hold up the others."""
    return await asyncio.to_thread(work) if size > MAX_BODY_BYTES else work()


def _check_parts(parts: Mapping[str, memoryview], given: Mapping[str, Any]) -> None:
    named = [value["part"] for value in given.values() if _is_object(value, "part")]
    for name in parts:
        if name not in named:
            raise InvalidMultipart(
                f"The part {name[:64]!r} is named nowhere in the request.",
                field=name[:64],
                accepted="{'part': '<name>'} in place of a picture",
            )


async def _file_of(
    value: Any, parts: Mapping[str, memoryview], tracking: Tracking, *, field: str
) -> bytes:
    """The bytes of a picture, given in any of the forms."""
    if isinstance(value, str):
        return await _apart(
            len(value), lambda: decode_input(value, field=field, accepted=_ACCEPTED)
        )
    if _is_object(value, "part"):
        if value["part"] not in parts:
            raise InvalidRequest(
                f"{field} names the part {value['part'][:64]!r}, which the body does not have.",
                field=field,
                accepted=sorted(parts) or "a multipart/form-data body that has it",
            )
        return bytes(parts[value["part"]])
    if _is_object(value, "job"):
        return await _stored(value["job"], value.get("index", 0), tracking, field=field)
    raise InvalidRequest(f"{field} is no picture.", field=field, accepted=_ACCEPTED)


def _is_object(value: Any, key: str) -> bool:
    """Whether it is the form that ``key`` is the mark of, as ``{"part": "name"}``."""
    allowed = {"job", "index"} if key == "job" else {key}
    return isinstance(value, dict) and isinstance(value.get(key), str) and value.keys() <= allowed


def is_address(value: Any) -> bool:
    """Whether it looks like one, of which the web client then decides; base64 has no colon."""
    return isinstance(value, str) and _ADDRESS.match(value) is not None


async def _stored(job_id: str, index: Any, tracking: Tracking, *, field: str) -> bytes:
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < 2**31:
        raise InvalidRequest(
            f"{field}.index is no image's number.",
            field=f"{field}.index",
            accepted="a whole number from 0",
        )
    try:
        return (await tracking.image(job_id[:64], index)).data
    except NotFound as error:
        raise NotFound(
            f"{field} names a picture that is not there. {error.message}",
            field=field,
            accepted="a picture of a job that has succeeded; wait for the job before you name it",
        ) from None
