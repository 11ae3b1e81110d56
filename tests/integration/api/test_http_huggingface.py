"""The Hugging Face Inference Toolkit's ``POST /``, also through huggingface_hub's own client."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from sfumato.core.errors import EngineFailure
from sfumato.core.keys import ROLES
from sfumato.core.ports import Slot
from sfumato.engine.fake import FakeEngine
from tests.integration.api.serving import context_of, serving
from tests.support.parts import House

PNG = b"\x89PNG"


async def test_its_own_client_gets_a_picture(house: House, http: httpx.AsyncClient) -> None:
    client = InferenceClient(model=str(http.base_url))

    def ask() -> Any:
        return client.text_to_image(
            "a castle at night",
            negative_prompt="fog",
            num_inference_steps=3,
            guidance_scale=2.5,
            width=64,
            height=96,
            scheduler="EulerAncestralDiscreteScheduler",
            seed=5,
        )

    async with house.working():
        picture = await asyncio.to_thread(ask)
    assert picture.size == (64, 96)
    (job,) = (await house.tracking.list()).jobs
    asked = job.request
    assert (asked.prompt, asked.negative_prompt, asked.seed) == ("a castle at night", "fog", 5)
    assert (asked.num_inference_steps, asked.guidance_scale) == (3, 2.5)
    assert asked.sampler == "euler_a"


async def test_its_own_client_reads_our_errors(http: httpx.AsyncClient) -> None:
    client = InferenceClient(model=str(http.base_url))
    with pytest.raises(HfHubHTTPError, match=r"parameters\.num_inference_steps is 1000"):
        await asyncio.to_thread(client.text_to_image, "a castle", num_inference_steps=1000)


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("image/png", "image/png"),
        ("image/jpeg", "image/jpeg"),
        ("image/jpg, image/png", "image/jpeg"),
        ("image/webp;q=0.9", "image/webp"),
        ("image/*", "image/png"),
        ("text/html, image/png", "image/png"),
    ],
)
async def test_the_picture_comes_as_accept_asks(
    house: House, http: httpx.AsyncClient, accept: str, media_type: str
) -> None:
    async with house.working():
        answer = await http.post("/", json={"inputs": "a castle"}, headers={"Accept": accept})
    # The fake engine draws PNG files alone; that it was asked for another format is seen here.
    job = await house.tracking.get(answer.headers["X-Sfumato-Job"])
    assert (answer.status_code, job.request.output_format.media_type) == (200, media_type)
    assert (answer.headers["Content-Type"], answer.content[:4]) == ("image/png", PNG)


@pytest.mark.parametrize("accept", ["*/*", "application/json", ""])
async def test_else_it_is_json(house: House, http: httpx.AsyncClient, accept: str) -> None:
    async with house.working():
        answer = await http.post(
            "/",
            json={"inputs": "a castle", "parameters": {"seed": 0}},
            headers={"Accept": accept},
        )
    assert answer.headers["Content-Type"] == "application/json"
    assert base64.b64decode(answer.json()).startswith(PNG)
    assert answer.headers["X-Sfumato-Seed"] == "0"


async def test_target_size_need_not_be_square(house: House, http: httpx.AsyncClient) -> None:
    """The toolkit refused whatever was not as wide as high."""
    size = {"width": 96, "height": 64}
    async with house.working():
        answer = await http.post("/", json={"inputs": "x", "parameters": {"target_size": size}})
    job = await house.tracking.get(answer.headers["X-Sfumato-Job"])
    assert (job.settings.width, job.settings.height) == (96, 64)


async def test_what_older_clients_add_is_let_be(house: House, http: httpx.AsyncClient) -> None:
    body = {
        "inputs": "a castle",
        "parameters": {"num_images_per_prompt": 1, "seed": None},
        "options": {"wait_for_model": True},
    }
    async with house.working():
        assert (await http.post("/", json=body)).status_code == 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"inputs": ""}, "inputs is empty"),
        ({"inputs": ["a", "b"]}, "inputs must be text"),
        ({"inputs": "x", "parameters": {"num_images_per_prompt": 4}}, "num_images_per_prompt"),
        ({"inputs": "x", "parameters": {"width": 7}}, "parameters.width is 7"),
        ({"inputs": "x", "parameters": {"scheduler": "Eulr"}}, "Eulr"),
        ({"inputs": "x", "parameters": {"model": "patern"}}, "'pattern'"),
        ({"inputs": "x", "parameters": {"strength": 1}}, "parameters.strength"),
        ({"inputs": "x", "modle": 1}, "modle"),
    ],
)
async def test_what_is_wrong_is_a_400(
    http: httpx.AsyncClient, body: dict[str, Any], words: str
) -> None:
    answer = await http.post("/", json=body)
    assert answer.status_code == 400
    assert words in answer.json()["error"]


async def test_a_form_that_can_not_be_had(http: httpx.AsyncClient) -> None:
    answer = await http.post("/", json={"inputs": "x"}, headers={"Accept": "image/gif"})
    assert (answer.status_code, "image/jpeg" in answer.json()["error"]) == (400, True)


async def test_a_failure_is_told(house: House, http: httpx.AsyncClient) -> None:
    def fail(_slots: Sequence[Slot]) -> None:
        raise EngineFailure("The network went out for lunch.")

    async with house.working(FakeEngine(before_step=fail)):
        answer = await http.post("/", json={"inputs": "a castle"})
    assert (answer.status_code, answer.json()) == (
        500,
        {"error": "The network went out for lunch."},
    )


async def test_without_a_key_nothing_is_drawn(house: House) -> None:
    _, viewer = await house.keys.create(name="v", scopes=ROLES["viewer"])
    async with (
        serving(context_of(house, key_required=True)) as url,
        httpx.AsyncClient(base_url=url) as http,
    ):
        stranger = await http.post("/", json={"inputs": "a castle"})
        assert (stranger.status_code, "key" in stranger.json()["error"]) == (401, True)
        headers = {"Authorization": f"Bearer {viewer}"}
        looking = await http.post("/", json={"inputs": "a castle"}, headers=headers)
        assert (looking.status_code, "generate" in looking.json()["error"]) == (403, True)


async def test_a_caller_that_hangs_up_takes_its_job_back(
    house: House, http: httpx.AsyncClient
) -> None:
    asking = asyncio.create_task(http.post("/", json={"inputs": "a castle"}))
    with house.watcher.subscribe_all() as changed:
        while not (jobs := (await house.tracking.list()).jobs):
            await changed.wait()
            changed.clear()
    asking.cancel()
    assert (await house.finished(jobs[0])).status.value == "canceled"
