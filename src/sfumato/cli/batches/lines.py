"""The lines of a batch file: JSON Lines, each a request of the native API.

A picture of a request may also be the path of a file, from the batch file's folder on.
"""

from __future__ import annotations

import codecs
import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from sfumato.core.errors import InvalidRequest

_ACCEPTED = 'an object with a prompt, as {"prompt": "a castle", "seed": 7}'
_NOT_FILES = ("data:", "http:", "https:")


@dataclass(frozen=True, slots=True)
class Line:
    """A request.

    Attributes:
        number: from 1.
        identity: a digest of the file's name, what the line says, and how many lines before it say
            the same; so it stays when other lines come, go or move.
        options: the request's fields beside the prompt.
    """

    number: int
    identity: str
    prompt: str
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BadLine:
    number: int
    error: InvalidRequest


def read_lines(data: bytes, *, name: str, folder: Path) -> list[Line | BadLine]:
    """Every line that is not blank.

    Args:
        name: of the file.
        folder: from which the paths of pictures go.
    """
    lines: list[Line | BadLine] = []
    seen: Counter[str] = Counter()
    for number, text in enumerate(data.removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):
        if not text.strip():
            continue
        try:
            request = _request(text)
        except InvalidRequest as error:
            lines.append(BadLine(number, error))
            continue
        said = json.dumps([name, request], sort_keys=True)
        seen[said] += 1
        identity = hashlib.sha256(f"{seen[said]} {said}".encode()).hexdigest()[:32]
        prompt = request.pop("prompt")
        lines.append(Line(number, identity, prompt, _located(request, folder)))
    return lines


def _request(text: bytes) -> dict[str, Any]:
    try:
        request = json.loads(text.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise InvalidRequest("It is no JSON.", accepted=_ACCEPTED) from None
    if not isinstance(request, dict):
        raise InvalidRequest("It is no JSON object.", accepted=_ACCEPTED)
    if not isinstance(request.get("prompt"), str):
        raise InvalidRequest("It has no prompt.", field="prompt", accepted=_ACCEPTED)
    if "idempotency_key" in request:
        raise InvalidRequest(
            "There is no field idempotency_key; each line gets one of its own.",
            field="idempotency_key",
        )
    return request


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _located(options: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The options with a path in place of each picture that is a file."""
    found = {**options}
    if "init_image" in found:
        found["init_image"] = _file(found["init_image"], folder)
    if isinstance(painting := found.get("inpainting"), dict) and "mask" in painting:
        found["inpainting"] = {**painting, "mask": _file(painting["mask"], folder)}
    if isinstance(controls := found.get("controls"), list):
        found["controls"] = [
            {**control, "image": _file(control["image"], folder)}
            if isinstance(control, dict) and "image" in control
            else control
            for control in controls
        ]
    return found


def _file(picture: object, folder: Path) -> object:
    if isinstance(picture, str) and not picture.lower().startswith(_NOT_FILES):
        return folder / picture
    return picture
