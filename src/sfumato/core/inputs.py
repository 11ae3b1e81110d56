"""Pictures that a request brings along: what is known of one without decoding it.

The bytes lie in the image store beside the job's own pictures; the request holds their digest, so
it stays small, hashable and comparable. Only headers are read here, so no file, however it
unfolds, costs the service more than its own length. The engine decodes.
"""

from __future__ import annotations

import binascii
import hashlib
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sfumato.core.errors import InvalidRequest
from sfumato.core.orientation import orientation

#: Of one picture. Sides in pixels.
MAX_INPUT_BYTES = 32 << 20
MAX_INPUT_SIDE = 8_192
MAX_INPUT_PIXELS = 1 << 25

_ACCEPTED = (
    f"a PNG, JPEG or WebP picture of at most {MAX_INPUT_BYTES >> 20} MiB, {MAX_INPUT_SIDE:,} pixels "
    f"a side and {MAX_INPUT_PIXELS >> 20} megapixels"
)
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class InputImage:
    """A picture of a request, by the SHA-256 of its file, in hex. Sides in pixels, as it is seen."""

    sha256: str
    media_type: str
    width: int
    height: int
    size_bytes: int

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> InputImage:
        return cls(**data)


def input_key(job_id: str, sha256: str) -> str:
    """Object key of a picture that a job brought along; deleted together with the job's own."""
    return f"jobs/{job_id}/inputs/{sha256}"


def read_input(data: bytes, *, field: str) -> InputImage:
    """What a picture's header says of it.

    Args:
        field: the request's field that it came in, for the error.

    Raises:
        InvalidRequest: it is no PNG, JPEG or WebP picture, or larger than is accepted.
    """
    if len(data) > MAX_INPUT_BYTES:
        raise InvalidRequest(f"{field} has {len(data):,} bytes.", field=field, accepted=_ACCEPTED)
    found = _header(data)
    if found is None:
        raise InvalidRequest(
            f"{field} is no picture that can be read.", field=field, accepted=_ACCEPTED
        )
    media_type, width, height = found
    if orientation(data) >= 5:
        width, height = height, width
    if (
        not (0 < width <= MAX_INPUT_SIDE and 0 < height <= MAX_INPUT_SIDE)
        or width * height > MAX_INPUT_PIXELS
    ):
        raise InvalidRequest(
            f"{field} is {width:,}x{height:,} pixels.", field=field, accepted=_ACCEPTED
        )
    return InputImage(hashlib.sha256(data).hexdigest(), media_type, width, height, len(data))


def decode_input(text: str, *, field: str, accepted: str = _ACCEPTED) -> bytes:
    """The file that a data URL or bare base64 holds; what it is, nobody has looked at yet.

    Args:
        field: the request's field that it came in, for the error.
        accepted: in which other ways a picture may be given there.

    Raises:
        InvalidRequest: it is neither, or too long.
    """
    prefix = _DATA_URL.match(text)
    start = prefix.end() if prefix else 0
    if len(text) - start > (MAX_INPUT_BYTES + 2) // 3 * 4 + 4:
        raise InvalidRequest(
            f"{field} is longer than {MAX_INPUT_BYTES:,} bytes.", field=field, accepted=accepted
        )
    encoded = "".join(text[start:].split())
    try:
        data = binascii.a2b_base64(encoded, strict_mode=True)
    except ValueError:
        data = b""
    if not data:
        raise InvalidRequest(
            f"{field} is text, but not a picture in base64.", field=field, accepted=accepted
        )
    return data


def _header(data: bytes) -> tuple[str, int, int] | None:
    """Media type, width and height; None: unknown or cut off."""
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
            if _has_countless_chunks(data):
                return None
            return "image/png", *struct.unpack(">II", data[16:24])
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg_header(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp_header(data)
    except (struct.error, IndexError):
        pass
    return None


#: Chunks of a PNG at most: decoders walk them one by one. 32 MiB of the usual 8 KiB make some 4,000.
_MAX_CHUNKS = 50_000


def _has_countless_chunks(data: bytes) -> bool:
    place = 8
    for _ in range(_MAX_CHUNKS):
        if place >= len(data):
            return False
        place += 12 + int.from_bytes(data[place : place + 4], "big")
    return True


#: JPEG's markers that begin a frame and so carry its size: C0 to CF but for DHT, JPG and DAC.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})
#: Markers before the frame at most. 32 MiB of profiles and notes make some 500.
_MAX_MARKERS = 10_000


def _jpeg_header(data: bytes) -> tuple[str, int, int] | None:
    """Walks the segments to the frame's header (ITU T.81, B.2.2)."""
    place = 2
    for _ in range(_MAX_MARKERS):
        if data[place] != 0xFF:
            return None
        marker = data[place + 1]
        if marker == 0xFF:  # padding before a marker
            place += 1
        elif marker in _JPEG_BARE:
            place += 2
        elif marker in _JPEG_FRAMES:
            height, width = struct.unpack(">HH", data[place + 5 : place + 9])
            return "image/jpeg", width, height
        else:
            place += 2 + struct.unpack(">H", data[place + 2 : place + 4])[0]
    return None


def _webp_header(data: bytes) -> tuple[str, int, int] | None:
    """The three kinds of WebP (https://developers.google.com/speed/webp/docs/riff_container)."""
    kind = data[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
        return "image/webp", width, height if len(data) >= 30 else 0
    if kind == b"VP8L" and data[20] == 0x2F:
        (bits,) = struct.unpack("<I", data[21:25])
        return "image/webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack("<HH", data[26:30])
        return "image/webp", width & 0x3FFF, height & 0x3FFF
    return None
