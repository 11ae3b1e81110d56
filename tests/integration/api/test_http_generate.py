"""``POST /generate``: the seed's contract, line by line."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence

import httpx
import pytest

from sfumato.api.app import create_app
from sfumato.core.errors import EngineFailure
from sfumato.core.job import JobStatus
from sfumato.core.ports import Slot
from sfumato.engine.fake import FakeEngine
from tests.integration.api.serving import ask, context_of
from tests.support.parts import House


@pytest.fixture
async def http(house: House) -> AsyncIterator[httpx.AsyncClient]:
    async with ask(create_app(context_of(house))) as client:
        yield client


def size(png: bytes) -> tuple[int, ...]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", png[16:24])


async def test_png_bytes_even_for_a_caller_that_accepts_json(
    house: House, http: httpx.AsyncClient
) -> None:
    body = {"prompt": "a castle", "guidance_scale": 7, "width": 64, "height": 128, "seed": 0}
    async with house.working():
        answers = [
            await http.post("/generate", json=body, headers={"Accept": "application/json"})
            for _ in range(2)
        ]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].headers["Content-Type"] == "image/png"
    assert size(answers[0].content) == (64, 128)
    assert answers[0].content == answers[1].content
    assert answers[0].headers["X-Sfumato-Seed"] == "0"
    job = await house.tracking.get(answers[0].headers["X-Sfumato-Job"])
    assert job.request.priority == 0


async def test_the_defaults_are_the_seed_s_and_not_the_model_s(
    house: House, http: httpx.AsyncClient
) -> None:
    async with house.working():
        answer = await http.post("/generate", json={"prompt": "a castle", "seed": None})
    used = (await house.tracking.get(answer.headers["X-Sfumato-Job"])).settings
    assert (used.num_inference_steps, used.guidance_scale) == (28, 7.0)
    assert size(answer.content) == (used.width, used.height) == (512, 512)
    assert answer.headers["X-Sfumato-Seed"] == str(used.seed)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "prompt"),
        ({"prompt": "x", "width": 7}, "width"),
        ({"prompt": "x", "stpes": 1}, "stpes"),
    ],
)
async def test_a_bad_body_is_refused_in_fastapi_s_form(
    http: httpx.AsyncClient, body: dict[str, object], field: str
) -> None:
    answer = await http.post("/generate", json=body)
    assert answer.status_code == 422
    (detail,) = answer.json()["detail"]
    assert detail["loc"] == ["body", field]
    assert detail["msg"]
    assert answer.json()["code"] == "invalid_request"


async def test_what_is_not_json_is_a_problem(http: httpx.AsyncClient) -> None:
    answer = await http.post(
        "/generate", content=b"{", headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_json")


async def test_a_failed_generation_is_a_500_with_its_message(
    house: House, http: httpx.AsyncClient
) -> None:
    def fail(_slots: Sequence[Slot]) -> None:
        raise EngineFailure("The network went out for lunch.")

    async with house.working(FakeEngine(before_step=fail)):
        answer = await http.post("/generate", json={"prompt": "a castle"})
    assert answer.status_code == 500
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.text == "The network went out for lunch."


async def test_a_job_that_somebody_else_cancels_is_answered(
    house: House, http: httpx.AsyncClient
) -> None:
    asking = asyncio.create_task(http.post("/generate", json={"prompt": "a castle"}))
    with house.watcher.subscribe_all() as changed:
        while not (jobs := (await house.tracking.list()).jobs):
            await changed.wait()
            changed.clear()
    await house.tracking.cancel(jobs[0].id)
    answer = await asking
    assert (answer.status_code, "canceled" in answer.text) == (500, True)
    assert (await house.tracking.get(jobs[0].id)).status is JobStatus.CANCELED
