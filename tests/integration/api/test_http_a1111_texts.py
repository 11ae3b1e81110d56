"""``png-info``: what pictures of any making say of themselves."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import AsyncIterator

import pytest
from PIL import Image, PngImagePlugin

from sfumato.api.app import create_app
from tests.integration.api.serving import Api, ask, context_of
from tests.support.parts import open_house
from tests.support.pictures import file_of, noise


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with open_house() as house:
        app = create_app(context_of(house))
        async with ask(app) as http:
            yield Api(house, app, http)


TEXT = 'a "castle", old\nNegative prompt: fog,\nrain\nSteps: 20, Sampler: Euler a, Size: 64x32, '
TEXT += 'Lora hashes: "ink: 0123, wash: 4567", Version: v1.10'


def png_with(kind: str) -> bytes:
    image = noise(8, 8)
    if kind in ("jpeg", "webp"):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + TEXT.encode("utf-16-be")
        return file_of(image, kind, exif=exif)
    texts = PngImagePlugin.PngInfo()
    if kind == "iTXt":
        texts.add_itxt("parameters", TEXT, zip=True)
    else:
        texts.add_text("parameters", TEXT, zip=kind == "zTXt")
    return file_of(image, pnginfo=texts)


@pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt", "jpeg", "webp"])
async def test_png_info_reads_every_kind_of_text(api: Api, kind: str) -> None:
    body = {"image": base64.b64encode(png_with(kind)).decode()}
    told = (await api.http.post("/sdapi/v1/png-info", json=body)).json()
    assert told["info"] == TEXT
    said = told["parameters"]
    assert (said["Prompt"], said["Negative prompt"]) == ('a "castle", old', "fog,\nrain")
    assert (said["Size-1"], said["Size-2"], said["Sampler"]) == ("64", "32", "Euler a")
    assert (said["Lora hashes"], said["Version"]) == ("ink: 0123, wash: 4567", "v1.10")


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize(
    "part",
    [
        chunk(b"zTXt", b"parameters\0\0broken"),
        chunk(b"iTXt", b"parameters\0\1\0\0\0" + b"broken"),
        chunk(b"iTXt", b"parameters\0\0\0\0\0\xff"),
        chunk(b"eXIf", b"MM\0*\0\0\0\x08\xff\xff"),
        struct.pack(">I", 2**31) + b"tEXt",
    ],
)
async def test_a_text_that_is_broken_is_no_text(api: Api, part: bytes) -> None:
    data = file_of(noise(8, 8))
    data = data[:33] + part + data[33:]
    body = {"image": base64.b64encode(data).decode()}
    answer = await api.http.post("/sdapi/v1/png-info", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["parameters"] in ({}, {"Prompt": "", "Negative prompt": ""})


async def test_a_text_that_unfolds_without_end_is_cut(api: Api) -> None:
    bomb = chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"a" * (16 << 20)))
    data = file_of(noise(8, 8))
    body = {"image": base64.b64encode(data[:33] + bomb + data[33:]).decode()}
    told = (await api.http.post("/sdapi/v1/png-info", json=body)).json()
    assert len(told["info"]) == 1 << 20
