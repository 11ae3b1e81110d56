"""Small picture files, made without Pillow."""

from __future__ import annotations

import struct
import zlib


def png(width: int, height: int, *, value: int = 0) -> bytes:
    """A grey PNG of one ``value``, 0 to 255."""
    return _png(width, height, (b"\0" + bytes([value]) * width) * height)


def png_that_lies(width: int, height: int) -> bytes:
    """A PNG whose header names a size and whose pixels are fewer."""
    return _png(width, height, b"\0")


def bomb(width: int = 30_000, height: int = 30_000) -> bytes:
    """A PNG of some kilobytes that unfolds to ``width`` x ``height`` pixels."""
    packer = zlib.compressobj(9)
    line = bytes(width + 1)
    body = b"".join(packer.compress(line) for _ in range(height)) + packer.flush()
    return _file(width, height, body)


def _png(width: int, height: int, pixels: bytes) -> bytes:
    return _file(width, height, zlib.compress(pixels))


def _file(width: int, height: int, packed: bytes) -> bytes:
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", packed),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
