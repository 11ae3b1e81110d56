"""The texts inside a picture's file, and what A1111's ``parameters`` text says.

PNG: the chunks tEXt, zTXt and iTXt (PNG 1.2, 4.2.3). JPEG and WebP: EXIF's UserComment. Nothing is
decoded beyond them.
"""

from __future__ import annotations

import contextlib
import json
import re
import struct
import zlib
from collections.abc import Iterator

from sfumato.core.orientation import exif_blocks

#: A1111's name for its text, also where the file has no names for texts.
PARAMETERS = "parameters"
_MAX_TEXT_BYTES = 1 << 20
_MAX_CHUNKS = 50_000
_KEY = re.compile(r"\w[\w /\-]*")
_SIZE = re.compile(r"(\d{1,6})x(\d{1,6})")
_NEGATIVE = "Negative prompt:"
#: Pairs that a last line must have to be no part of the prompt.
_LEAST_PAIRS = 3
_EXIF_PREFIX = b"Exif\0\0"
_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286
_ENCODINGS = {b"UNICODE\0": "utf-16", b"ASCII\0\0\0": "latin-1", b"\0" * 8: "utf-8"}


def texts_of(data: bytes) -> dict[str, str]:
    """The texts of a PNG, JPEG or WebP file by their names; what can't be read is left out."""
    texts: dict[str, str] = {}
    if data.startswith(b"\x89PNG"):
        texts.update(_png_texts(data))
    if PARAMETERS not in texts:
        # A file that is cut off says no more.
        with contextlib.suppress(struct.error, IndexError):
            for block in exif_blocks(data):
                comment = _user_comment(block.removeprefix(_EXIF_PREFIX))
                if comment:
                    texts[PARAMETERS] = comment
    return texts


def parameters_of(text: str) -> dict[str, str]:
    """The prompts and the ``Key: value`` pairs of A1111's text; a size becomes two numbers."""
    *lines, last = text.strip().split("\n")
    pairs = dict(_pairs(last))
    if len(pairs) < _LEAST_PAIRS:
        lines.append(last)
        pairs = {}
    prompts: tuple[list[str], list[str]] = ([], [])
    negative = False
    for line in map(str.strip, lines):
        begins = line.startswith(_NEGATIVE)
        negative = negative or begins
        prompts[negative].append(line.removeprefix(_NEGATIVE).strip() if begins else line)
    found = {"Prompt": "\n".join(prompts[0]), "Negative prompt": "\n".join(prompts[1])}
    for key, value in pairs.items():
        size = _SIZE.fullmatch(value)
        if size is None:
            found[key] = value
        else:
            found[f"{key}-1"], found[f"{key}-2"] = size.groups()
    return found


def _pairs(line: str) -> Iterator[tuple[str, str]]:
    """Pairs apart by commas; a value in quotes may hold some."""
    place = 0
    while (colon := line.find(":", place)) >= 0:
        key = line[place:colon].strip()
        place = colon + 1
        while line[place : place + 1] == " ":
            place += 1
        value, place = _value(line, place)
        if _KEY.fullmatch(key):
            yield key, value


def _value(line: str, place: int) -> tuple[str, int]:
    """A value, and where the next pair begins."""
    if line[place : place + 1] == '"':
        try:
            value, end = json.JSONDecoder().raw_decode(line, place)
        except ValueError:
            pass
        else:
            comma = line.find(",", end)
            return str(value), len(line) if comma < 0 else comma + 1
    comma = line.find(",", place)
    end = len(line) if comma < 0 else comma
    return line[place:end].strip(), end + 1


def _png_texts(data: bytes) -> Iterator[tuple[str, str]]:
    place = 8
    for _ in range(_MAX_CHUNKS):
        if place + 8 > len(data):
            return
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        if kind in (b"tEXt", b"zTXt", b"iTXt") and length <= _MAX_TEXT_BYTES:
            name, _, rest = data[place + 8 : place + 8 + length].partition(b"\0")
            text = _chunk_text(kind, rest)
            if text is not None:
                yield name.decode("latin-1"), text
        place += 12 + length


def _chunk_text(kind: bytes, rest: bytes) -> str | None:
    if kind == b"tEXt":
        return rest.decode("latin-1")
    if kind == b"zTXt":
        return _decoded(_inflated(rest[1:]), "latin-1")
    compressed, text = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
    return _decoded(_inflated(text) if compressed else text, "utf-8")


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, _MAX_TEXT_BYTES)
    except zlib.error:
        return b""


def _decoded(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _user_comment(block: bytes) -> str | None:
    """The tag UserComment of a TIFF block: below the first directory's pointer to EXIF's own.

    Raises ``struct.error`` where it is cut off.
    """
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return None
    (first,) = struct.unpack(order + "I", block[4:8])
    exif = _entry(block, order, first, _EXIF_IFD)
    found = None if exif is None else _entry(block, order, exif[1], _USER_COMMENT)
    if found is None:
        return None
    count, start = found
    comment = block[start : start + min(count, _MAX_TEXT_BYTES)]
    encoding = _ENCODINGS.get(comment[:8])
    if encoding is None:
        return None
    if encoding == "utf-16" and comment[8:10] not in (b"\xff\xfe", b"\xfe\xff"):
        # Whoever writes no mark writes big-endian, as A1111 does, or the file's own order.
        encoding = "utf-16-be" if comment[8:9] == b"\0" or order == ">" else "utf-16-le"
    return _decoded(comment[8:], encoding)


def _entry(block: bytes, order: str, start: int, tag: int) -> tuple[int, int] | None:
    """Count and value of a directory's entry."""
    (entries,) = struct.unpack(order + "H", block[start : start + 2])
    for n in range(entries):
        place = start + 2 + 12 * n
        found, _kind, count, value = struct.unpack(order + "HHII", block[place : place + 12])
        if found == tag:
            return count, value
    return None
