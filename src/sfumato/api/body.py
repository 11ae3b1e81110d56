"""Reading a JSON body strictly: limited in size and depth, and never half understood."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, get_args

import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sfumato.api.complaints import complaint, kind_of
from sfumato.api.problems import BodyTooLarge, InvalidJson, UnsupportedMediaType
from sfumato.core.errors import InvalidRequest

MAX_BODY_BYTES = 1024 * 1024
#: Deeper JSON is refused: whoever walks the data later may do so recursively.
MAX_DEPTH = 32

Model = TypeVar("Model", bound=BaseModel)
Buffer = bytes | bytearray | memoryview


async def read_json(request: Request, model: type[Model], *, limit: int = MAX_BODY_BYTES) -> Model:
    """The request's body, of at most ``limit`` bytes, as ``model``.

    Raises ``UnsupportedMediaType``, ``BodyTooLarge``, ``InvalidJson`` or ``InvalidRequest``.
    """
    check_media_type(request)
    return parse(model, await read_buffer(request, limit=limit))


def openapi_body(model: type[BaseModel]) -> dict[str, Any]:
    """``openapi_extra`` of a route that reads its body through :func:`read_json`."""
    schema = body_schema(model)
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
    }


def body_schema(model: type[BaseModel]) -> dict[str, Any]:
    """JSON Schema of a body, whole in itself: a reference would be looked for in the OpenAPI
    document that it is put into."""
    schema = model.model_json_schema(mode="validation")
    parts = schema.pop("$defs", {})

    def whole(node: Any) -> Any:
        if isinstance(node, list):
            return [whole(item) for item in node]
        if not isinstance(node, dict):
            return node
        named = parts.get(node.get("$ref", "").removeprefix("#/$defs/"), {})
        beside = {key: value for key, value in node.items() if key != "$ref"}
        return {key: whole(value) for key, value in {**named, **beside}.items()}

    found: dict[str, Any] = whole(schema)
    return found


def parse(model: type[Model], body: Buffer) -> Model:
    """The body as ``model``: unknown names are refused, ``null`` means left out."""
    return checked(model, loads_object(body))


def checked(model: type[Model], data: Mapping[str, Any]) -> Model:
    """What :func:`loads` read, or a form's fields, as ``model``. Raises ``InvalidRequest``."""
    _check_names(data, model)
    given = {name: value for name, value in data.items() if value is not None}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise _refusal(error.errors(include_url=False)[0], model) from None


def loads(body: Buffer) -> Any:
    """JSON as RFC 8259 has it: UTF-8, no NaN, no lone surrogates, at most 32 levels deep."""
    try:
        data = orjson.loads(body)
    except json.JSONDecodeError as error:
        # orjson's words may quote the text; its position says enough.
        raise InvalidJson(
            f"The body is not JSON: line {error.lineno}, column {error.colno} can't be read. "
            "JSON is UTF-8 text, and NaN and Infinity are no part of it.",
            accepted="a JSON object",
        ) from None
    level, depth = [data], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise InvalidJson(f"The body is nested more than {MAX_DEPTH} levels deep.")
        level = [child for node in level for child in _children(node)]
    return data


def loads_object(body: Buffer) -> dict[str, Any]:
    """:func:`loads`, of an object. Raises ``InvalidRequest`` for anything else."""
    return as_object(loads(body))


def as_object(data: Any, *, accepted: str = "a JSON object") -> dict[str, Any]:
    """What :func:`loads` read, if that is an object. Raises ``InvalidRequest``."""
    if not isinstance(data, dict):
        raise InvalidRequest(
            f"The body is {kind_of(data)}; it must be a JSON object.", accepted=accepted
        )
    return data


def _children(node: Any) -> Iterable[Any]:
    values = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return (value for value in values if isinstance(value, dict | list))


def check_media_type(request: Request) -> None:
    header = request.headers.get("content-type", "")
    media_type = header.partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise UnsupportedMediaType(
            f"The body's Content-Type is {media_type or 'missing'}.",
            field="Content-Type",
            accepted="application/json",
        )


async def read_bytes(request: Request, *, limit: int) -> bytes:
    """:func:`read_buffer`, for who keeps it."""
    return bytes(await read_buffer(request, limit=limit))


async def read_buffer(request: Request, *, limit: int) -> bytearray:
    """The body, read no further than the limit, whether its length was announced or not.

    Raises ``BodyTooLarge``.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return body


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"The body is larger than {limit:,} bytes.", accepted=f"at most {limit >> 20} MiB"
    )


def _check_names(data: Iterable[str], model: type[BaseModel]) -> None:
    for name in data:
        if name not in model.model_fields:
            raise _unknown_field(name, model)


def _unknown_field(name: str, model: type[BaseModel], *, within: str = "") -> InvalidRequest:
    """Args:
    within: the dotted name of the part that it stands in, with a dot at its end.
    """
    known, short = list(model.model_fields), name[:64]
    near = difflib.get_close_matches(short, known, n=1) or [k for k in known if short in k]
    hint = f" Did you mean {within + near[0]!r}?" if near and short else ""
    return InvalidRequest(
        f"There is no field {within + short!r}.{hint}", field=within + short, accepted=known
    )


def _refusal(error: ErrorDetails, model: type[BaseModel]) -> InvalidRequest:
    """pydantic's first complaint, with what would have been right."""
    *within, last = error["loc"]
    name = ".".join(map(str, error["loc"]))
    part, accepted = _described(error["loc"], model)
    if error["type"] == "extra_forbidden":
        return _unknown_field(str(last), part, within=".".join(map(str, within)) + ".")
    return InvalidRequest(complaint(error, name), field=name, accepted=accepted)


def _described(
    place: Iterable[int | str], model: type[BaseModel]
) -> tuple[type[BaseModel], str | None]:
    """The innermost part of the request that ``place`` leads into, and what is said of its field."""
    accepted = None
    for name in place:
        field = model.model_fields.get(str(name))
        if field is None:
            continue  # an index, or a name that there is not
        accepted = field.description
        model = next(_models_in(field.annotation), model)
    return model, accepted


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Those of ``Part``, ``Part | None`` and ``list[Part]``."""
    for each in (annotation, *get_args(annotation)):
        if isinstance(each, type) and issubclass(each, BaseModel):
            yield each
