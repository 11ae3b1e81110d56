"""Pictures on their way to the service: files go beside the request, as parts of a form."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Protocol, TypedDict, runtime_checkable

from sfumato.client import errors
from sfumato.client.results import Image, ImageInfo

_ACCEPTED = (
    "a path, bytes, an open file, a data URL, or an image of an earlier job: an Image, its info, or "
    "{'job': '<id>', 'index': 0}"
)
_IMAGE_URL = re.compile(r"/v1/jobs/([^/]+)/images/(\d+)")
_SENT_AS_IT_IS = ("data:", "http:", "https:")


@runtime_checkable
class Readable(Protocol):
    """A file that was opened in binary mode."""

    def read(self) -> bytes: ...


class StoredPicture(TypedDict, total=False):
    """A stored picture of an earlier job, by the job's id and its index there."""

    job: str
    index: int


#: A text is a path, but for a data URL.
Picture = str | PathLike[str] | bytes | bytearray | Readable | Image | ImageInfo | StoredPicture


@dataclass(slots=True)
class Files:
    """The files that go with a request, by their parts' names."""

    parts: dict[str, bytes] = field(default_factory=dict)

    def attached(self, options: Mapping[str, object]) -> dict[str, object]:
        """The options with what JSON can hold in place of each picture.

        Raises:
            InvalidRequest: what stands for a picture is none, naming the field.
            OSError: its file can't be read.
        """
        given = dict(options)
        if given.get("init_image") is not None:
            given["init_image"] = self._reference(given["init_image"], "init_image")
        if isinstance(painting := given.get("inpainting"), Mapping):
            given["inpainting"] = self._within(painting, "mask", "inpainting")
        if isinstance(controls := given.get("controls"), Sequence):
            given["controls"] = [
                self._within(control, "image", f"controls.{n}")
                if isinstance(control, Mapping)
                else control
                for n, control in enumerate(controls)
            ]
        return given

    def _within(self, part: Mapping[str, object], name: str, place: str) -> dict[str, object]:
        if part.get(name) is None:
            return dict(part)
        return {**part, name: self._reference(part[name], f"{place}.{name}")}

    def _reference(self, picture: object, name: str) -> object:
        if isinstance(picture, Mapping):
            return dict(picture)
        if isinstance(picture, ImageInfo):
            found = _IMAGE_URL.search(picture.url)
            if found is None:
                raise _no_picture(picture, name)
            return {"job": found[1], "index": int(found[2])}
        if isinstance(picture, str) and picture.lower().startswith(_SENT_AS_IT_IS):
            return picture
        self.parts[name] = _bytes_of(picture, name)
        return {"part": name}


def _bytes_of(picture: object, name: str) -> bytes:
    data = picture
    if isinstance(picture, Image):
        data = picture.data
    elif isinstance(picture, str | PathLike):
        data = Path(picture).read_bytes()
    elif isinstance(picture, Readable):
        data = picture.read()
    if not isinstance(data, bytes | bytearray):
        raise _no_picture(picture, name)
    return bytes(data)


def _no_picture(value: object, name: str) -> errors.InvalidRequest:
    return errors.InvalidRequest(
        f"{name} is of the type {type(value).__name__}, which is no picture.",
        code="invalid_request",
        field=name,
        accepted=_ACCEPTED,
    )


def form(request: bytes, files: Mapping[str, bytes]) -> tuple[str, bytes]:
    """The Content-Type and the bytes of a form (RFC 7578) of JSON and files."""
    boundary = secrets.token_hex(16)
    pieces = [_part(boundary, "request", "application/json"), request]
    for name, data in files.items():
        pieces += [_part(boundary, name, "application/octet-stream", named=True), data]
    pieces.append(f"\r\n--{boundary}--\r\n".encode())
    return f"multipart/form-data; boundary={boundary}", b"".join(pieces)


def _part(boundary: str, name: str, media_type: str, *, named: bool = False) -> bytes:
    filename = f'; filename="{name}"' if named else ""
    return (
        f"\r\n--{boundary}\r\n"
        f'Content-Disposition: form-data; name="{name}"{filename}\r\n'
        f"Content-Type: {media_type}\r\n\r\n"
    ).encode()
