from __future__ import annotations

import contextlib
import io
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from sfumato.core.errors import InvalidRequest
from sfumato.core.inputs import InputImage, read_input
from sfumato.core.models import ModelInfo, ModelLayout
from sfumato.core.orientation import orientation
from sfumato.core.request import GenerationRequest
from sfumato.engine.pictures import open_mask, open_picture
from tests.support.pictures import Brought, file_of, noise

MODEL = ModelInfo("tiny", "sd1", ModelLayout.CHECKPOINT, "/x")
FORMATS = ("PNG", "JPEG", "WEBP")


def opened(data: bytes, **said: int) -> tuple[Image.Image, bool]:
    brought = Brought()
    image = replace(brought.add(data), **said)
    task = brought.task(GenerationRequest("x", init_image=image), MODEL)
    return open_picture(task, image, field="init_image")


def mask_of(picture: Image.Image) -> Image.Image:
    brought = Brought()
    image = brought.add(picture)
    task = brought.task(GenerationRequest("x", init_image=image), MODEL)
    return open_mask(task, image, field="inpainting.mask")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16"])
def test_every_mode_of_png_is_read(mode: str) -> None:
    grey = noise(9, 7, "L")
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    elif mode == "PA":
        picture = grey.convert("P")
        picture.info["transparency"] = 3
    else:
        picture = grey.convert(mode)
    seen, _ = opened(file_of(picture))
    assert (seen.mode, seen.size) == ("RGB", (9, 7))
    if mode not in ("1", "P", "PA"):
        assert np.array_equal(np.asarray(seen), np.asarray(grey.convert("RGB")))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_every_mode_of_jpeg_is_read(mode: str) -> None:
    picture = Image.new("RGB", (16, 8), (200, 100, 50)).convert(mode)
    seen, _ = opened(file_of(picture, "JPEG", quality=100))
    expected = picture.convert("RGB").getpixel((0, 0))
    assert np.abs(np.asarray(seen).astype(int) - expected).max() <= 4


def test_what_is_transparent_is_seen_on_white() -> None:
    picture = Image.new("RGBA", (8, 8), (0, 0, 0, 255))
    assert not opened(file_of(picture))[1]
    picture.putpixel((1, 0), (255, 0, 0, 0))
    picture.putpixel((2, 0), (0, 0, 0, 128))
    seen, transparent = opened(file_of(picture))
    assert transparent
    assert [seen.getpixel((x, 0)) for x in range(3)] == [
        (0, 0, 0),
        (255, 255, 255),
        (127, 127, 127),
    ]


def test_a_masks_alpha_is_not_read() -> None:
    picture = Image.new("RGBA", (8, 8), (255, 255, 255, 0))
    assert mask_of(picture).getextrema() == (255, 255)
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([255, 255, 255])
    palette.info["transparency"] = 0
    assert mask_of(palette).getextrema() == (255, 255)
    deep = Image.fromarray(np.full((8, 8), 0x8000, np.uint16))
    assert mask_of(deep).getextrema() == (128, 128)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("turn", range(1, 9))
def test_a_picture_is_seen_upright(kind: str, turn: int) -> None:
    """Red is at the top, to the left of it the picture is as long as it is tall above."""
    upright = Image.new("RGB", (32, 16), "white")
    upright.paste((255, 0, 0), (0, 0, 16, 8))
    lying = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[0x0112] = turn
    picture = upright if turn == 1 else upright.transpose(lying[turn])
    data = file_of(picture, kind, exif=exif)
    assert orientation(data) == turn
    image = read_input(data, field="init_image")
    assert (image.width, image.height) == (32, 16)
    seen, _ = opened(data)
    red = np.asarray(seen).astype(int)[:, :, 0] - np.asarray(seen).astype(int)[:, :, 1] > 128
    assert red[:8, :16].mean() > 0.8
    assert red.sum() < 1.2 * 8 * 16


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"RIFF"]))
def test_no_bytes_confuse_the_orientation(data: bytes, beginning: bytes) -> None:
    assert 1 <= orientation(beginning + data) <= 8


@pytest.mark.parametrize(
    ("beginning", "block"),
    [
        (b"\x89PNG\r\n\x1a\n", b"\0\0\0\0tEXt\0\0\0\0"),
        (b"\xff\xd8", b"\xff\xe0\0\x02"),
        (b"RIFF\0\0\0\0WEBP", b"XXXX\0\0\0\0"),
    ],
)
def test_a_file_of_countless_parts_is_not_searched_to_its_end(
    beginning: bytes, block: bytes
) -> None:
    class Counted(bytes):
        reads = 0

        def __getitem__(self, place):  # type: ignore[no-untyped-def]
            Counted.reads += 1
            return super().__getitem__(place)

    assert orientation(Counted(beginning + block * 1_000_000)) == 1
    assert Counted.reads < 60_000


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_that_is_cut_off_is_refused_by_its_field(kind: str) -> None:
    data = file_of(noise(64, 64), kind)
    with pytest.raises(InvalidRequest, match="init_image") as caught:
        opened(data[: len(data) // 2])
    assert caught.value.field == "init_image"


@pytest.mark.parametrize("kind", FORMATS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(kind: str, data: st.DataObject) -> None:
    file = bytearray(file_of(noise(24, 16), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidRequest):
        seen, _ = opened(bytes(file))
        assert seen.mode == "RGB"


def _png(width: int, height: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def test_a_bomb_is_refused_before_it_unfolds() -> None:
    """Its real header is larger than what was admitted."""
    bomb = _png(60_000, 60_000, zlib.compress(bytes(1 << 20)))
    image = InputImage("a" * 64, "image/png", 64, 64, len(bomb))
    brought = Brought()
    brought.files[image.sha256] = bomb
    task = brought.task(GenerationRequest("x", init_image=image), MODEL)
    with pytest.raises(InvalidRequest) as caught:
        open_picture(task, image, field="init_image")
    assert caught.value.field == "init_image"


def test_a_size_that_is_not_the_headers_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="16x8") as caught:
        opened(file_of(noise(16, 8)), width=8, height=8)
    assert caught.value.field == "init_image"


def test_webp_whose_frame_is_larger_than_its_canvas_is_refused() -> None:
    data = bytearray(file_of(noise(40, 40).convert("RGBA"), "WEBP", exif=Image.Exif()))
    if data[12:16] != b"VP8X":
        exif = Image.Exif()
        exif[0x0112] = 1
        data = bytearray(file_of(noise(40, 40), "WEBP", exif=exif))
    assert data[12:16] == b"VP8X"
    data[24:30] = (7).to_bytes(3, "little") + (7).to_bytes(3, "little")
    with pytest.raises(InvalidRequest):
        opened(bytes(data))


def test_a_png_of_countless_chunks_is_refused_before_a_decoder_walks_them() -> None:
    chunk = b"\0\0\0\0teXt" + struct.pack(">I", zlib.crc32(b"teXt"))
    file = file_of(noise(8, 8))
    few, many = (file[:33] + chunk * count + file[33:] for count in (1_000, 60_000))
    assert opened(few)[0].size == (8, 8)
    with pytest.raises(InvalidRequest):
        read_input(many, field="init_image")


def test_text_that_unfolds_in_a_png_is_refused() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "x" * (8 << 20), zip=True)
    target = io.BytesIO()
    noise(8, 8).save(target, "PNG", pnginfo=info)
    with pytest.raises(InvalidRequest):
        opened(target.getvalue())
