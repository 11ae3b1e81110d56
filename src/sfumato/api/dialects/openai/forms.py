"""Bodies of OpenAI's image routes: JSON, and forms whose fields are text."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any

from fastapi import Request

from sfumato.api.body import MAX_BODY_BYTES, as_object, body_schema, loads, read_buffer
from sfumato.api.dialects.openai.asked import ImageRequest
from sfumato.api.inputs import MAX_JOB_BYTES, read_json_with_pictures
from sfumato.api.multipart import MEDIA_TYPE, listed_parts
from sfumato.api.problems import BodyTooLarge, InvalidJson, InvalidMultipart, UnsupportedMediaType
from sfumato.api.requests import JobRequest
from sfumato.core.errors import InvalidRequest

#: More than there are fields, of which the parts of parts are counted, too.
_MAX_PARTS = 128
#: ``hires[scale]``, as SDKs write an object's member.
_MEMBER = re.compile(r"(\w{1,64})(?:\[(\w{1,64})\])?", re.ASCII)
#: The parts that are files -> their fields. SDKs write a list of files as ``image[]``.
_FILES = {"image": "image", "image[]": "image", "mask": "mask"}
_PICTURE_FIELDS = ("image", "mask")


async def read_object(request: Request) -> dict[str, Any]:
    """A JSON body. Raises ``UnsupportedMediaType``, ``BodyTooLarge``, ``InvalidJson`` or
    ``InvalidRequest``."""
    return as_object(await read_json_with_pictures(request))


async def read_form(request: Request) -> tuple[dict[str, Any], dict[str, memoryview]]:
    """A form's fields, its files as ``{"part": name}``, and those files by name; or a JSON body,
    whose pictures stand in it.

    Raises as :func:`read_object` does, or ``InvalidMultipart``.
    """
    content_type = request.headers.get("content-type", "")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "application/json":
        return _of_json(await read_object(request)), {}
    if media_type != MEDIA_TYPE:
        raise UnsupportedMediaType(
            f"The body's Content-Type is {media_type or 'missing'}.",
            field="Content-Type",
            accepted=f"{MEDIA_TYPE} or application/json",
        )
    body = await read_buffer(request, limit=MAX_JOB_BYTES)
    if len(body) > MAX_BODY_BYTES:  # it must not hold up the others
        return await asyncio.to_thread(_split, body, content_type)
    return _split(body, content_type)


def openapi_edit(*, mask: bool) -> dict[str, Any]:
    """``openapi_extra`` of a route that reads its body through :func:`read_form`.

    Args:
        mask: whether it takes a prompt and a mask.
    """
    file = {"type": "string", "format": "binary"}
    in_json = JobRequest.model_json_schema()["properties"]["init_image"]
    return {
        "requestBody": {
            "required": True,
            "content": {
                MEDIA_TYPE: {"schema": _edit_schema(file, mask=mask)},
                "application/json": {"schema": _edit_schema(in_json, mask=mask)},
            },
        }
    }


def _edit_schema(picture: Mapping[str, Any], *, mask: bool) -> dict[str, Any]:
    schema = body_schema(ImageRequest)
    schema["properties"] |= dict.fromkeys(_PICTURE_FIELDS if mask else _PICTURE_FIELDS[:1], picture)
    schema["required"] = ["image", "prompt"] if mask else ["image"]
    del schema["examples"]
    return schema


def _split(body: bytearray, content_type: str) -> tuple[dict[str, Any], dict[str, memoryview]]:
    data: dict[str, Any] = {}
    files: dict[str, memoryview] = {}
    for name, part in listed_parts(body, content_type, limit=_MAX_PARTS):
        field = _FILES.get(name)
        if field is None:
            _put(data, name, _text(name, part))
        elif field in files:
            raise InvalidRequest(
                f"There is more than one {field}.", field=field, accepted="one picture"
            )
        else:
            files[field] = part
    return {**data, **{field: {"part": field} for field in files}}, files


def _put(data: dict[str, Any], name: str, text: str) -> None:
    found = _MEMBER.fullmatch(name)
    if found is None:
        top = name.partition("[")[0][:64]
        raise InvalidRequest(
            f"{name[:64]!r} is no field of a form: a list goes into one as JSON text.",
            field=top,
            accepted=f'{top} with a text as [{{"name": "ink"}}]',
        )
    top, member = found.groups()
    target: Any = data if member is None else data.setdefault(top, {})
    key = member or top
    if not isinstance(target, dict) or key in target:
        raise InvalidMultipart(f"The form has {top!r} twice.", field=top, accepted="it once")
    target[key] = text if top in _TEXTS else _value(text)


def _text(name: str, part: memoryview) -> str:
    if len(part) > MAX_BODY_BYTES:
        raise BodyTooLarge(
            f"The part {name[:64]!r} is larger than {MAX_BODY_BYTES:,} bytes.",
            field=name[:64],
            accepted=f"at most {MAX_BODY_BYTES >> 20} MiB but for image and mask",
        )
    try:
        return str(part, "utf-8")
    except UnicodeDecodeError:
        raise InvalidMultipart(
            f"The part {name[:64]!r} is not text in UTF-8.", field=name[:64], accepted="text"
        ) from None


def _value(text: str) -> Any:
    """A form's text as what JSON would have said; what JSON can't read is text."""
    try:
        return loads(text.encode())
    except InvalidJson:
        return text


def _takes_text_alone(schema: Mapping[str, Any]) -> bool:
    kinds = {kind.get("type") for kind in schema.get("anyOf", [schema])}
    return kinds <= {"string", "null"}


#: The fields of which a form's text is the value, whatever it looks like.
_TEXTS = frozenset(
    name
    for name, schema in body_schema(ImageRequest)["properties"].items()
    if _takes_text_alone(schema)
)


def _of_json(data: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's JSON form of an edit: ``images`` with an ``image_url`` each, as ``mask``."""
    images = data.pop("images", None)
    if isinstance(images, list) and len(images) == 1 and "image" not in data:
        data["image"] = images[0]
    elif images is not None:
        raise InvalidRequest(
            "images holds no single picture.", field="images", accepted="a list of one picture"
        )
    for name in _PICTURE_FIELDS:
        value = data.get(name)
        if isinstance(value, dict) and value.keys() == {"image_url"}:
            data[name] = value["image_url"]
        elif isinstance(value, dict) and "file_id" in value:
            raise InvalidRequest(
                f"{name} names a file; no files are kept here.",
                field=name,
                accepted='{"image_url": "<address or data URL>"}, or a form',
            )
    return data
