"""``multipart/form-data`` bodies (RFC 7578), split without copying what is in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.message import Message

from sfumato.api.problems import InvalidMultipart

MEDIA_TYPE = "multipart/form-data"
MAX_PARTS = 16
_MAX_HEAD_BYTES = 4096
_MAX_BOUNDARY = 70
_NAME = re.compile(
    rb'(?:^|\r\n)content-disposition:[ \t]*form-data\b[^\r\n]*?;[ \t]*name="([^"\r\n]{1,200})"',
    re.IGNORECASE,
)


def parts_of(body: bytearray, content_type: str) -> dict[str, memoryview]:
    """The parts by their names, as views of ``body``.

    Args:
        content_type: the header, whose ``boundary`` divides the parts.

    Raises:
        InvalidMultipart: the body is cut off, or not of that form, or names a part twice.
    """
    parts: dict[str, memoryview] = {}
    for name, part in listed_parts(body, content_type, limit=MAX_PARTS):
        if name in parts:
            raise _refused(f"has two parts of the name {name!r}")
        parts[name] = part
    return parts


def listed_parts(
    body: bytearray, content_type: str, *, limit: int
) -> Iterator[tuple[str, memoryview]]:
    """The parts as they follow each other, at most ``limit``; a name may come again.

    Raises ``InvalidMultipart``.
    """
    # The line end before a boundary belongs to it (RFC 2046, 5.1.1); the first may have none.
    divider = b"\r\n--" + _boundary(content_type)
    first = -2 if body.startswith(divider[2:]) else body.find(divider)
    if first == -1:
        raise _refused("has no part")
    place, view, count = first + len(divider), memoryview(body), 0
    while body[place : place + 2] != b"--":
        end = body.find(divider, place)
        if end < 0:
            raise _refused("is cut off")
        head_end = body.find(b"\r\n\r\n", place, end)
        if body[place : place + 2] != b"\r\n" or not 0 <= head_end - place <= _MAX_HEAD_BYTES:
            raise _refused("has a part that can't be read")
        if count == limit:
            raise _refused(f"has more than {limit} parts")
        yield _name(bytes(view[place:head_end])), view[head_end + 4 : end]
        place, count = end + len(divider), count + 1


def _boundary(content_type: str) -> bytes:
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_boundary("")
    try:
        encoded = boundary.encode("ascii")
    except UnicodeEncodeError:
        encoded = b""
    if not 1 <= len(encoded) <= _MAX_BOUNDARY:
        raise _refused("names no boundary in its Content-Type")
    return encoded


def _name(head: bytes) -> str:
    found = _NAME.search(head)
    try:
        name = found[1].decode() if found else ""
    except UnicodeDecodeError:
        name = ""
    if not name:
        raise _refused("has a part without a name")
    return name


def _refused(what: str) -> InvalidMultipart:
    return InvalidMultipart(
        f"The body {what}.",
        field="Content-Type",
        accepted="multipart/form-data with a part `request` of JSON and a part for each file",
    )
