"""Which way up a picture is meant to be seen: EXIF's orientation, read without decoding anything."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_EXIF_PREFIX = b"Exif\0\0"
_ORIENTATION = 0x0112
_SHORT = 3
#: Parts of a file that are looked at; a PNG of 32 MiB in the usual parts of 8 KiB has some 4,000.
_MAX_BLOCKS = 10_000


def orientation(data: bytes) -> int:
    """EXIF's orientation of a PNG, JPEG or WebP file: 1, as it lies, to 8; 1 where it says nothing.

    From 5 on the sides change places.
    """
    try:
        for block in exif_blocks(data):
            return _read(block.removeprefix(_EXIF_PREFIX))
    except (struct.error, IndexError):
        pass
    return 1


def exif_blocks(data: bytes) -> Iterator[bytes]:
    """EXIF's blocks of a PNG, JPEG or WebP file, some behind ``Exif`` and two zeros.

    Raises ``struct.error`` or ``IndexError`` where the file is cut off.
    """
    if data.startswith(b"\x89PNG"):
        return _png_chunks(data)
    if data.startswith(b"\xff\xd8"):
        return _jpeg_segments(data)
    if data[:4] == b"RIFF":
        return _webp_chunks(data)
    return iter(())


def _png_chunks(data: bytes) -> Iterator[bytes]:
    place = 8
    for _ in range(_MAX_BLOCKS):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        if kind == b"eXIf":
            yield data[place + 8 : place + 8 + length]
        place += 12 + length


def _webp_chunks(data: bytes) -> Iterator[bytes]:
    place = 12
    for _ in range(_MAX_BLOCKS):
        kind, length = struct.unpack("<4sI", data[place : place + 8])
        if kind == b"EXIF":
            yield data[place + 8 : place + 8 + length]
        place += 8 + length + length % 2


def _jpeg_segments(data: bytes) -> Iterator[bytes]:
    """EXIF stands before the frame, among the segments that all tell their length."""
    place = 2
    for _ in range(_MAX_BLOCKS):
        marker = data[place + 1]
        if data[place] != 0xFF or not (marker == 0xFE or 0xE0 <= marker <= 0xEF):
            return
        length = struct.unpack(">H", data[place + 2 : place + 4])[0]
        segment = data[place + 4 : place + 2 + length]
        if marker == 0xE1 and segment.startswith(_EXIF_PREFIX):
            yield segment
        place += 2 + length


def _read(block: bytes) -> int:
    """The tag in the first directory of a TIFF header (TIFF 6.0, section 2)."""
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return 1
    (start,) = struct.unpack(order + "I", block[4:8])
    (entries,) = struct.unpack(order + "H", block[start : start + 2])
    for n in range(entries):
        place = start + 2 + 12 * n
        tag, kind, _, value = struct.unpack(order + "HHIH", block[place : place + 10])
        if (tag, kind) == (_ORIENTATION, _SHORT):
            return value if 1 <= value <= 8 else 1
    return 1
