"""A picture's header: read for what it says, whatever it says, and never decoded."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from sfumato.core.errors import InvalidRequest
from sfumato.core.inputs import (
    MAX_INPUT_BYTES,
    MAX_INPUT_SIDE,
    InputImage,
    input_key,
    read_input,
)

_PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")
_JPEG_MODES = ("L", "RGB", "CMYK")


def encoded(mode: str, size: tuple[int, int], **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, **options)  # type: ignore[arg-type]  # as Pillow takes them
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header says so much, and whose pixels are a few bytes."""
    body = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", body), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


PICTURES = {
    **{f"png-{mode}": encoded(mode, (37, 19), format="PNG") for mode in _PNG_MODES},
    **{f"jpeg-{mode}": encoded(mode, (37, 19), format="JPEG") for mode in _JPEG_MODES},
    "jpeg-progressive": encoded("RGB", (37, 19), format="JPEG", progressive=True),
    "jpeg-comment": encoded("RGB", (37, 19), format="JPEG", comment=b"\xff\xc0\xff\xd9"),
    "jpeg-profile": encoded("RGB", (37, 19), format="JPEG", icc_profile=bytes(200_000)),
    "webp-VP8": encoded("RGB", (37, 19), format="WEBP", lossless=False),
    "webp-VP8L": encoded("RGB", (37, 19), format="WEBP", lossless=True),
    "webp-VP8X": encoded("RGBA", (37, 19), format="WEBP", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_the_header_of_every_kind(name: str) -> None:
    data = PICTURES[name]
    found = read_input(data, field="init_image")
    media_type = f"image/{name.partition('-')[0]}"
    assert found == InputImage(hashlib.sha256(data).hexdigest(), media_type, 37, 19, len(data))


def test_the_three_kinds_of_webp_are_what_they_are_called() -> None:
    assert {name: PICTURES[f"webp-{name}"][12:16] for name in ("VP8", "VP8L", "VP8X")} == {
        "VP8": b"VP8 ",
        "VP8L": b"VP8L",
        "VP8X": b"VP8X",
    }


@pytest.mark.parametrize("name", PICTURES)
def test_cut_off_at_any_byte_it_is_refused_or_has_its_size(name: str) -> None:
    data = PICTURES[name]
    for length in range(min(len(data), 1500)):
        try:
            found = read_input(data[:length], field="init_image")
        except InvalidRequest as error:
            assert error.field == "init_image"  # noqa: PT017 - either is right
        else:
            assert (found.width, found.height) == (37, 19), length


@pytest.mark.parametrize(
    "size", [(30_000, 8), (8, 30_000), (MAX_INPUT_SIDE + 1, 1), (0, 8), (8, 0), (8192, 8192)]
)
def test_a_header_beyond_the_limits_is_refused_with_them(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidRequest, match=f"mask is {size[0]:,}x{size[1]:,}") as caught:
        read_input(png_header(*size), field="mask")
    assert "8,192 pixels a side and 32 megapixels" in str(caught.value.accepted)


def test_as_large_as_may_be() -> None:
    assert read_input(png_header(8192, 4096), field="mask").width == 8192
    with pytest.raises(InvalidRequest, match=r"has 33,554,433 bytes"):
        read_input(PICTURES["png-RGB"].ljust(MAX_INPUT_BYTES + 1, b"\0"), field="mask")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<svg/>",
        b"GIF89a\x01\0\x01\0",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xd9",
        b"RIFF\0\0\0\0WEBPVP9 ",
        b"\x89PNG\r\n\x1a\n",
        pytest.param(b"\xff\xd8" + b"\xff" * (1 << 24), id="16 MiB of padding"),
    ],
)
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="no picture that can be read") as caught:
        read_input(data, field="controls.0.image")
    assert caught.value.field == "controls.0.image"


_BEGINNINGS = (b"", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP")


@given(st.sampled_from(_BEGINNINGS), st.binary(max_size=200))
@example(b"\xff\xd8\xff", b"\xff" * 200)
@example(b"\xff\xd8\xff", b"\xe0\0\0" * 60)
@example(b"RIFF\0\0\0\0WEBP", b"VP8X" + bytes(13))
def test_nothing_but_a_refusal_is_raised(beginning: bytes, rest: bytes) -> None:
    try:
        found = read_input(beginning + rest, field="init_image")
    except InvalidRequest:
        return
    assert 0 < found.width <= MAX_INPUT_SIDE
    assert 0 < found.height <= MAX_INPUT_SIDE


@given(st.sampled_from(sorted(PICTURES)), st.data())
def test_a_damaged_picture_is_refused_or_read(name: str, data: st.DataObject) -> None:
    damaged = bytearray(PICTURES[name])
    places = st.integers(0, min(len(damaged), 600) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=8)):
        damaged[place] = value
    try:
        read_input(bytes(damaged), field="init_image")
    except InvalidRequest as error:
        assert error.field == "init_image"  # noqa: PT017 - either is right


def test_inputs_lie_below_their_job() -> None:
    assert input_key("01k", "ab" * 32) == f"jobs/01k/inputs/{'ab' * 32}"
