"""Bad input over real sockets: each a clear error of its own request or job, and the others go on.

The engine of this test draws patterns, but decodes pictures as the real one does.
"""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from PIL import Image

from sfumato.core.ports import ImageTask
from sfumato.engine.fake import FakeEngine, FakeSlot
from sfumato.engine.pictures import open_mask, open_picture
from tests.integration.api.serving import context_of, serving
from tests.support.parts import open_house
from tests.support.png import bomb, png, png_that_lies

PICTURE = png(64, 64)


class Decoding(FakeEngine):
    def admit(self, task: ImageTask) -> FakeSlot:
        request = task.request
        if request.init_image is not None:
            open_picture(task, request.init_image, field="init_image")
        if request.inpainting is not None:
            open_mask(task, request.inpainting.mask, field="inpainting.mask")
        return super().admit(task)


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """A client of a running service with one worker, which must still work at the end."""
    async with (
        open_house() as house,
        house.working(Decoding()),
        serving(context_of(house)) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as http,
    ):
        yield http
        after = await draw(http, init_image=text(PICTURE))
        assert after["status"] == "succeeded"


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def cut(kind: str) -> bytes:
    """Half of a picture file."""
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(buffer, kind)
    data = buffer.getvalue()
    return data[: len(data) // 2]


def jpeg(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (width, height)).save(buffer, "JPEG")
    return buffer.getvalue()


async def draw(http: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    """The answer, of the finished job where there is one."""
    answer = await http.post(
        "/v1/jobs", json={"prompt": "a castle", **fields}, headers={"Prefer": "wait=60"}
    )
    body: dict[str, Any] = {**answer.json(), "answered": answer.status_code}
    return body


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"init_image": text(b"#!/bin/sh\nexit 1\n")}, "init_image", "no picture"),
        ({"init_image": text(b"<svg xmlns='x'/>")}, "init_image", "no picture"),
        ({"init_image": text(b"GIF89a" + bytes(99))}, "init_image", "no picture"),
        ({"init_image": text(png(30_000, 8))}, "init_image", "30,000x8"),
        ({"init_image": text(jpeg(30_000, 8))}, "init_image", "30,000x8"),
        ({"init_image": text(bomb())}, "init_image", "30,000x30,000"),
        ({"init_image": text(png_that_lies(100_000, 100_000))}, "init_image", "100,000x100,000"),
        ({"init_image": text(png_that_lies(8192, 8192))}, "init_image", "8,192x8,192"),
        (
            {"init_image": text(PICTURE), "inpainting": {"mask": text(png(64, 56))}},
            "inpainting.mask",
            "64x56",
        ),
        (
            {"init_image": text(PICTURE), "inpainting": {"mask": text(b"no")}},
            "inpainting.mask",
            "no picture",
        ),
        (
            {"controls": [{"model": "depth", "image": text(png(9000, 1))}]},
            "controls.0.image",
            "9,000x1",
        ),
        ({"prompt": "x" * 100_000}, "prompt", "100,000 characters"),
        ({"negative_prompt": "x" * 100_000}, "negative_prompt", "100,000 characters"),
    ],
    ids=[
        *("script", "svg", "gif", "wide png", "wide jpeg", "bomb", "huge header", "large header"),
        *("mask size", "mask", "control", "prompt", "negative prompt"),
    ],
)
async def test_it_is_refused_by_its_field(
    http: httpx.AsyncClient, fields: dict[str, Any], field: str, words: str
) -> None:
    problem = await draw(http, **fields)
    assert (problem["answered"], problem["code"]) == (422, "invalid_request")
    assert problem["field"] == field
    assert words in problem["detail"]
    assert problem["accepted"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"init_image": text(png_that_lies(2048, 2048))}, "init_image"),
        ({"init_image": text(cut("PNG"))}, "init_image"),
        ({"init_image": text(cut("JPEG"))}, "init_image"),
        ({"init_image": text(cut("WEBP"))}, "init_image"),
        (
            {"init_image": text(PICTURE), "inpainting": {"mask": text(png_that_lies(64, 64))}},
            "inpainting.mask",
        ),
    ],
    ids=["lying header", "half a png", "half a jpeg", "half a webp", "lying mask"],
)
async def test_a_file_that_is_not_what_its_header_says_fails_its_job_alone(
    http: httpx.AsyncClient, fields: dict[str, Any], field: str
) -> None:
    before = await http.post("/v1/jobs", json={"prompt": "a castle", "num_inference_steps": 50})
    failed = await draw(http, **fields)
    assert (failed["answered"], failed["status"]) == (200, "failed")
    assert failed["error"]["code"] == "invalid_request"
    assert field in failed["error"]["message"]
    assert failed["attempts"] == 1
    other = await http.get(f"/v1/jobs/{before.json()['id']}")
    assert other.json()["status"] != "failed"


@pytest.mark.parametrize(
    ("prompt", "noted"),
    [
        ("((castle", "2 brackets of the prompt have no partners"),
        ("castle)]]", "3 brackets"),
        ("[[[[castle", "4 brackets"),
        ("(:1.3", "one bracket of the prompt has no partner"),
        ("<lora:", ""),
        ("\\(", ""),
    ],
)
async def test_unbalanced_brackets_are_drawn_and_told(
    http: httpx.AsyncClient, prompt: str, noted: str
) -> None:
    job = await draw(http, prompt=prompt)
    assert job["status"] == "succeeded"
    assert noted in " ".join(job["notes"])


async def test_many_at_once_fail_alone(http: httpx.AsyncClient) -> None:
    """Good and bad side by side in one batch."""
    pictures = [PICTURE, cut("PNG")] * 8
    answers = [
        await http.post("/v1/jobs", json={"prompt": "a castle", "init_image": text(data)})
        for data in pictures
    ]
    ended = []
    for answer in answers:
        async with http.stream("GET", f"/v1/jobs/{answer.json()['id']}/events") as events:
            async for line in events.aiter_lines():
                if line.startswith("event: ") and line[7:] in {"succeeded", "failed"}:
                    ended.append(line[7:])  # noqa: PERF401 - a comprehension would be no plainer
    assert ended == ["succeeded", "failed"] * 8
