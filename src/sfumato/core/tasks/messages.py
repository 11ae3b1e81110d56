"""Tasks as other systems write them: three formats of one API over A1111's parameters.

=========  =======================================================  =============================
format     the message                                              its results lie below
=========  =======================================================  =============================
v0         A1111's parameters, and in ``alwayson_scripts`` the       ``<id_task>/``
           ``task``, ``id_task`` and ``sd_model_checkpoint``
v1alpha1   the same with ``save_dir`` beside them                    ``<save_dir>/<id_task>/``
v1alpha2   ``metadata`` (``id``, ``runtime``, ``tasktype``,          ``<prefix>/<id>/``
           ``prefix``, ``context``) and ``content``, A1111's
=========  =======================================================  =============================
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sfumato.core.errors import InvalidRequest
from sfumato.core.request import GenerationRequest
from sfumato.core.tasks.parameters import (
    IMAGE_TO_IMAGE,
    PICTURES,
    Edit,
    check_drawn,
    check_kind,
    edit_of,
    request_of,
)

_ID = re.compile(r"[A-Za-z0-9_-]{1,256}")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]{1,128}")
#: What is used of an id in the names of results.
_ID_IN_NAMES = 64


class NotATask(InvalidRequest):
    """A message without what it takes to answer it: it belongs in the dead-letter queue."""


class TaskFormat(StrEnum):
    V0 = "v0"
    V1ALPHA1 = "v1alpha1"
    V1ALPHA2 = "v1alpha2"


@dataclass(frozen=True, slots=True)
class ParsedTask:
    """What a message asks for, and how it wants to be answered.

    Attributes:
        asked: the request, but for the pictures of ``edit``; or why there can be none.
        id: the sender's own name for the task; a second one may have the same.
        folder: below this lie its results.
        parameters: A1111's, as they came, to be repeated in the answer; without pictures.
        context: whatever the sender wants back, as it came.
    """

    asked: GenerationRequest | InvalidRequest
    format: TaskFormat
    id: str
    folder: str
    runtime: str
    parameters: Mapping[str, Any]
    context: Any
    edit: Edit | None = None


def parse_task(text: str) -> ParsedTask:
    """Read a message of any of the formats.

    Raises:
        NotATask: it is none, or names no place where an answer may be put.
    """
    data = read_object(text)
    if data is None:
        raise NotATask("It is no JSON object.")
    inner = data.get("task")
    if "metadata" in data or (isinstance(inner, dict) and "metadata" in inner):
        return parse_v1alpha2(data)
    if "alwayson_scripts" in data:
        return parse_v0(data)
    raise NotATask("It has neither metadata nor alwayson_scripts.")


def read_object(text: str) -> dict[str, Any] | None:
    """The JSON object that a text is; None for anything else, NaN and infinity inside included."""
    try:
        value = json.loads(text, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def is_id(value: Any) -> bool:
    """Whether it may name a task: letters, digits, - and _, or a whole number."""
    return _id_text(value) is not None


def parse_v0(data: Mapping[str, Any]) -> ParsedTask:
    """A message of v0 or v1alpha1. Raises ``NotATask``."""
    header = data.get("alwayson_scripts")
    if not isinstance(header, dict):
        raise NotATask("alwayson_scripts is no object.")
    name = _id(header.get("id_task"), "id_task")
    save_dir = header.get("save_dir")
    parameters = {
        key: value
        for key, value in data.items()
        if key not in ("alwayson_scripts", "sdname", "s3_output_path")
    }
    asked, edit = _asked(header.get("task"), parameters, header, name)
    return ParsedTask(
        asked=asked,
        format=TaskFormat.V0 if save_dir is None else TaskFormat.V1ALPHA1,
        id=name,
        folder=_folder(save_dir, name, "save_dir"),
        runtime=_text(data.get("sdname")),
        parameters=_echo(parameters),
        context={},
        edit=edit,
    )


def parse_v1alpha2(data: Mapping[str, Any]) -> ParsedTask:
    """A message of v1alpha2, as it is posted, within ``task``, or published, without.

    Raises ``NotATask``.
    """
    inner = data.get("task")
    data = inner if isinstance(inner, dict) and "metadata" in inner else data
    metadata, content = data.get("metadata"), data.get("content")
    if not isinstance(metadata, dict):
        raise NotATask("metadata is no object.")
    name = _id(metadata.get("id"), "id")[:_ID_IN_NAMES]
    parameters, header = _content(content)
    asked: GenerationRequest | InvalidRequest
    if isinstance(content, dict):
        asked, edit = _asked(metadata.get("tasktype"), parameters, header, name)
    else:
        asked, edit = InvalidRequest("content is missing, or no object.", field="content"), None
    return ParsedTask(
        asked=asked,
        format=TaskFormat.V1ALPHA2,
        id=name,
        folder=_folder(metadata.get("prefix"), name, "prefix"),
        runtime=_text(metadata.get("runtime")),
        parameters=_echo(parameters),
        context=metadata.get("context", {}),
        edit=edit,
    )


def _content(content: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters and what v1alpha1 keeps in ``alwayson_scripts``."""
    if not isinstance(content, dict):
        return {}, {}
    header = content.get("alwayson_scripts")
    parameters = {key: value for key, value in content.items() if key != "alwayson_scripts"}
    return parameters, header if isinstance(header, dict) else {}


def _asked(
    kind: Any, parameters: Mapping[str, Any], header: Mapping[str, Any], name: str
) -> tuple[GenerationRequest | InvalidRequest, Edit | None]:
    try:
        check_kind(kind)
        check_drawn(kind, parameters, header)
        asked = request_of(parameters, header, name)
        return asked, edit_of(parameters, header) if kind == IMAGE_TO_IMAGE else None
    except InvalidRequest as error:
        return error, None


def _echo(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in parameters.items() if key not in PICTURES}


def _id(value: Any, field: str) -> str:
    """Keys derive from it, so it must not lead anywhere else."""
    text = _id_text(value)
    if text is None:
        raise NotATask(f"{field} is missing, or more than letters, digits, - and _.", field=field)
    return text


def _id_text(value: Any) -> str | None:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    return text if isinstance(text, str) and _ID.fullmatch(text) else None


def _folder(above: Any, name: str, field: str) -> str:
    if above is None or above == "":
        return name
    segments = above.strip("/").split("/") if isinstance(above, str) else []
    if not segments or any(
        not _SEGMENT.fullmatch(segment) or segment in (".", "..") for segment in segments
    ):
        raise NotATask(
            f"{field} is no folder's name of letters, digits, '.', - and _.", field=field
        )
    return "/".join([*segments, name])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number
