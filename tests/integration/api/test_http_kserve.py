"""KServe's V1 and V2 by plain HTTP: every shape that is taken, and what is refused."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from sfumato.api.app import create_app
from sfumato.core.errors import EngineFailure
from sfumato.core.job import JobStatus
from sfumato.core.keys import ROLES
from sfumato.core.ports import Slot
from sfumato.engine.fake import FakeEngine
from tests.integration.api.serving import Api, ask, context_of, serving
from tests.support.parts import open_house

PREDICT = "/v1/models/pattern:predict"
INFER = "/v2/models/pattern/infer"
ONE = {"prompt": "a castle at night", "seed": 7}
LENGTH = "Inference-Header-Content-Length"


def text(name: str, *values: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "datatype": "BYTES",
        "shape": [len(values)],
        "data": list(values),
        **more,
    }


def numbers(name: str, datatype: str, *values: float) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [len(values)], "data": list(values)}


def binary(request: dict[str, Any], *parts: bytes) -> dict[str, Any]:
    """Arguments of a post with the parts behind the JSON."""
    head = json.dumps(request).encode()
    return {"content": b"".join((head, *parts)), "headers": {LENGTH: str(len(head))}}


def element(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


async def stored(api: Api, answer: httpx.Response) -> list[bytes]:
    """The pictures of the answer's jobs."""
    found = []
    for job_id in answer.headers["X-Sfumato-Job"].split(","):
        job = await api.house.tracking.get(job_id)
        found += [(await api.house.images.get(image.key)).data for image in job.images]
    return found


async def test_v1_answers_a_picture_for_every_instance(api: Api) -> None:
    body = {"instances": [ONE, {"prompt": "a", "width": 128}], "parameters": {"width": 72}}
    async with api.house.working():
        answer = await api.http.post(PREDICT, json=body)
    assert answer.status_code == 200, answer.text
    found = [base64.b64decode(each) for each in answer.json()["predictions"]]
    assert found == await stored(api, answer)
    # What an instance says goes before what all of them get.
    assert [struct.unpack(">I", png[16:20]) for png in found] == [(72,), (128,)]


async def test_v1_of_a_prompt_alone_answers_its_bytes(api: Api) -> None:
    body = {"prompt": "a castle", "parameters": {"seed": 3, "num_inference_steps": 2}}
    async with api.house.working():
        answer = await api.http.post(PREDICT, json=body)
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["X-Sfumato-Seed"] == "3"
    assert [answer.content] == await stored(api, answer)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "prompt is missing"),
        ([], "JSON object"),
        ({"instances": []}, "0 jobs"),
        ({"instances": [1]}, "list of objects"),
        ({"instances": ["a castle"]}, "list of objects"),
        ({"instances": [{"prompt": "a"}, {}]}, "instances.1: prompt is missing"),
        ({"instances": [{"prompt": "a", "steps": 3}]}, "instances.0: There is no field 'steps'"),
        ({"instances": [{"prompt": "a", "num_images": 2}]}, "a prediction is one picture"),
        ({"instances": [{"prompt": "a", "model": "other"}]}, "than the path's"),
        ({"instances": [{"prompt": "a", "width": 65}]}, "width"),
        ({"instances": [{"prompt": "a"}], "signature_name": "x"}, "signature_name"),
        ({"instances": [{"prompt": "a"}], "parameters": 3}, "parameters must be an object"),
        ({"instances": [{"prompt": "a"}] * 65}, "65 jobs"),
        ({"prompt": "a", "seed": 3}, "no field 'seed'"),
    ],
)
async def test_v1_refuses_in_kserve_s_form(api: Api, body: Any, word: str) -> None:
    answer = await api.http.post(PREDICT, json=body)
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/json"
    assert word in answer.json()["error"]
    assert not (await api.house.tracking.list()).jobs


async def test_v1_refuses_a_model_or_body_that_is_none(api: Api) -> None:
    unknown = await api.http.post("/v1/models/nothing:predict", json=ONE)
    assert (unknown.status_code, list(unknown.json())) == (404, ["error"])
    broken = await api.http.post(
        PREDICT, content=b"{", headers={"Content-Type": "application/json"}
    )
    assert (broken.status_code, list(broken.json())) == (400, ["error"])
    unlike = await api.http.post(PREDICT, content=b"{}")
    assert unlike.status_code == 415


async def test_v1_says_whether_a_model_is_ready(api: Api) -> None:
    answer = (await api.http.get("/v1/models/pattern")).json()
    assert (answer["name"], answer["ready"]) == ("pattern", True)
    assert (await api.http.get("/v1/models/nothing")).status_code == 404


@pytest.mark.parametrize("path", [PREDICT, INFER])
async def test_a_failure_takes_the_other_jobs_back(api: Api, path: str) -> None:
    def fail(slots: Sequence[Slot]) -> None:
        raise EngineFailure("The brush broke.")

    body: dict[str, Any] = {"instances": [{"prompt": "a"}, {"prompt": "castle"}]}
    if path == INFER:
        body = {"inputs": [text("prompt", "a", "castle")]}
    async with api.house.working(FakeEngine(before_step=fail)):
        answer = await api.http.post(path, json=body)
    assert answer.status_code == 500
    assert "The brush broke." in answer.json()["error"]
    jobs = (await api.house.tracking.list()).jobs
    assert len(jobs) == 2
    assert all(job.status.finished for job in jobs)


@pytest.mark.parametrize("path", [PREDICT, INFER])
async def test_who_hangs_up_takes_every_job_back(path: str) -> None:
    body: dict[str, Any] = {"instances": [{"prompt": "a"}, {"prompt": "castle"}]}
    if path == INFER:
        body = {"inputs": [text("prompt", "a", "castle")]}
    async with open_house() as house, serving(context_of(house)) as url:
        async with httpx.AsyncClient(base_url=url) as http:
            asking = asyncio.create_task(http.post(path, json=body))
            while len((await house.tracking.list()).jobs) < 2:
                await asyncio.sleep(0.01)  # the store tells nobody of a new job
            asking.cancel()
            await asyncio.wait((asking,))
        for job in (await house.tracking.list()).jobs:
            ended = await house.tracking.wait(job.id, timeout=30)
            assert ended.status is JobStatus.CANCELED


async def test_v2_in_json(api: Api) -> None:
    body = {
        "id": "42",
        "inputs": [
            text("prompt", "a castle", "night"),
            numbers("seed", "UINT64", 2**64 - 1, 5),
            numbers("guidance_scale", "FP32", 5.5),
        ],
        "parameters": {"num_inference_steps": 2},
    }
    async with api.house.working():
        answer = await api.http.post(INFER, json=body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["id"], found["model_name"], found["model_version"]) == ("42", "pattern", "1")
    image, seed = found["outputs"]
    assert (image["name"], image["datatype"], image["shape"]) == ("image", "BYTES", [2])
    assert image["parameters"] == {"content_type": "base64"}
    assert [base64.b64decode(each) for each in image["data"]] == await stored(api, answer)
    assert seed == {"name": "seed", "datatype": "UINT64", "shape": [2], "data": [2**64 - 1, 5]}
    jobs = [
        await api.house.tracking.get(each) for each in answer.headers["X-Sfumato-Job"].split(",")
    ]
    assert [job.request.prompt for job in jobs] == ["a castle", "night"]
    assert {job.settings.guidance_scale for job in jobs} == {5.5}
    assert {job.settings.num_inference_steps for job in jobs} == {2}


async def test_v2_in_binary_both_ways(api: Api) -> None:
    body = {
        "inputs": [
            {
                "name": "prompt",
                "datatype": "BYTES",
                "shape": [1, 1],
                "parameters": {"binary_data_size": 12},
            },
            numbers("width", "INT32", 72),
            {
                "name": "height",
                "datatype": "INT16",
                "shape": [1],
                "parameters": {"binary_data_size": 2},
            },
        ],
        "outputs": [{"name": "image", "parameters": {"binary_data": True}}, {"name": "seed"}],
    }
    async with api.house.working():
        answer = await api.http.post(INFER, **binary(body, element(b"a castle"), b"\x80\x00"))
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/octet-stream"
    length = int(answer.headers[LENGTH])
    image, seed = json.loads(answer.content[:length])["outputs"]
    [picture] = await stored(api, answer)
    assert answer.content[length:] == element(picture)
    assert image["parameters"] == {"binary_data_size": len(picture) + 4}
    assert "data" not in image
    assert len(seed["data"]) == 1
    assert struct.unpack(">II", picture[16:24]) == (72, 128)


async def test_v2_takes_a_picture_as_its_file(api: Api) -> None:
    drawn = await api.draw()
    data = (await api.house.tracking.image(drawn["id"], 0)).data
    tensor = {"name": "init_image", "datatype": "BYTES", "shape": [1]}
    as_file = {**tensor, "parameters": {"binary_data_size": len(data) + 4}}
    as_text = {**tensor, "data": [base64.b64encode(data).decode()]}
    prompts = [text("prompt", "a castle"), numbers("strength", "FP32", 0.5)]
    async with api.house.working():
        first = await api.http.post(INFER, **binary({"inputs": [*prompts, as_file]}, element(data)))
        second = await api.http.post(INFER, json={"inputs": [*prompts, as_text]})
    for answer in (first, second):
        assert answer.status_code == 200, answer.text
        job = await api.house.tracking.get(answer.headers["X-Sfumato-Job"])
        assert job.request.init_image is not None
        assert job.request.init_image.size_bytes == len(data)


PROMPT = text("prompt", "a castle")


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "inputs is missing"),
        ({"inputs": []}, "inputs"),
        ({"inputs": [text("negative_prompt", "a")]}, "prompt is missing"),
        ({"inputs": [PROMPT, PROMPT]}, "two inputs"),
        ({"inputs": [PROMPT, text("steps", "3")]}, "no input 'steps'"),
        ({"inputs": [PROMPT], "parameters": {"sequence_id": 3}}, "no input 'sequence_id'"),
        ({"inputs": [PROMPT], "parameters": {"prompt": "b"}}, "twice"),
        ({"inputs": [PROMPT, numbers("width", "INT32", 64, 72)]}, "width has 2 elements"),
        ({"inputs": [PROMPT, numbers("width", "INT4", 64)]}, "must be of BYTES, or of BOOL"),
        ({"inputs": [PROMPT, numbers("width", "INT32", 65)]}, "width"),
        ({"inputs": [PROMPT, numbers("width", "FP32", 64.5)]}, "width"),
        ({"inputs": [text("prompt", "a", shape=[2])]}, "1 elements, but a shape of 2"),
        ({"inputs": [text("prompt", "a", shape=[-1])]}, "shape that can't be"),
        ({"inputs": [text("prompt", "a", shape=[1] * 9)]}, "shape that can't be"),
        ({"inputs": [text("prompt", "a", data=[3])]}, "must be texts"),
        ({"inputs": [text("prompt", "a", data=None)]}, "needs either"),
        ({"inputs": [text("prompt", "a", parameters={"binary_data_size": 1})]}, "within"),
        ({"inputs": [text("prompt", "a", parameters={"binary_data_size": "1"})]}, "whole number"),
        ({"inputs": [PROMPT], "outputs": [{"name": "generated_image"}]}, "a file, not pixels"),
        (
            {
                "inputs": [PROMPT],
                "outputs": [{"name": "image", "parameters": {"classification": 3}}],
            },
            "classification",
        ),
        ({"inputs": [PROMPT], "more": 1}, "no field 'more'"),
        ({"inputs": [text("prompt", *["a"] * 65)]}, "at most 64 elements"),
    ],
)
async def test_v2_refuses_in_the_protocol_s_form(api: Api, body: dict[str, Any], word: str) -> None:
    answer = await api.http.post(INFER, json=body)
    assert answer.status_code == 422, answer.text
    assert word in answer.json()["error"]
    assert not (await api.house.tracking.list()).jobs


@pytest.mark.parametrize(
    ("size", "data", "word"),
    [
        (4, b"\x05\x00\x00\x00", "cut off"),
        (2, b"\x05\x00", "cut off"),
        (5, b"\x01\x00\x00\x00ab", "belong to no input"),
        (5, b"\x01\x00\x00\x00\xff", "UTF-8"),
        (9, b"\x01\x00\x00\x00a\x00\x00\x00\x00", "more elements, but a shape of 1"),
    ],
)
async def test_v2_refuses_binary_data_that_do_not_fit(
    api: Api, size: int, data: bytes, word: str
) -> None:
    tensor = {"name": "prompt", "datatype": "BYTES", "shape": [1]}
    body = {"inputs": [{**tensor, "parameters": {"binary_data_size": size}}]}
    answer = await api.http.post(INFER, **binary(body, data))
    assert answer.status_code == 422
    assert word in answer.json()["error"]


@pytest.mark.parametrize("length", ["-1", "x", "9999", "99999999999"])
async def test_v2_refuses_a_length_that_can_not_be(api: Api, length: str) -> None:
    body = json.dumps({"inputs": [PROMPT]}).encode()
    answer = await api.http.post(INFER, content=body, headers={LENGTH: length})
    assert answer.status_code == 422
    assert LENGTH in answer.json()["error"]


async def test_v2_refuses_numbers_that_are_none(api: Api) -> None:
    scale = {"name": "guidance_scale", "datatype": "FP32", "shape": [1]}
    body = {"inputs": [PROMPT, {**scale, "parameters": {"binary_data_size": 4}}]}
    answer = await api.http.post(INFER, **binary(body, struct.pack("<f", float("nan"))))
    assert answer.status_code == 422
    assert "guidance_scale" in answer.json()["error"]


async def test_v2_tells_of_the_server_and_its_models(api: Api) -> None:
    server = (await api.http.get("/v2")).json()
    assert (server["name"], server["extensions"]) == ("sfumato", ["binary_tensor_data"])
    assert (await api.http.get("/v2/health/live")).json() == {"live": True}
    assert (await api.http.get("/v2/health/ready")).json() == {"ready": True}
    assert (await api.http.get("/v2/models")).json() == {"models": ["pattern"]}
    for path in ("/v2/models/pattern", "/v2/models/pattern/versions/1"):
        model = (await api.http.get(path)).json()
        assert (model["name"], model["versions"]) == ("pattern", ["1"])
        assert model["inputs"][0] == {"name": "prompt", "datatype": "BYTES", "shape": [-1]}
        ready = await api.http.get(f"{path}/ready")
        assert ready.json() == {"name": "pattern", "ready": True}
    for path in ("/v2/models/pattern/versions/2", "/v2/models/nothing", "/v2/models/nothing/ready"):
        answer = await api.http.get(path)
        assert (answer.status_code, list(answer.json())) == (404, ["error"])
    api.app.state.context.stopping.set()
    assert (await api.http.get("/v2/health/ready")).status_code == 503
    lost = await api.http.get("/v2/nowhere")
    assert (lost.status_code, list(lost.json())) == (404, ["error"])


async def test_strangers_are_told_in_the_same_form() -> None:
    async with (
        open_house() as house,
        ask(create_app(context_of(house, key_required=True))) as http,
    ):
        for path, body in ((PREDICT, ONE), (INFER, {"inputs": [PROMPT]})):
            answer = await http.post(path, json=body)
            assert (answer.status_code, list(answer.json())) == (401, ["error"])
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert (await http.get("/v2/health/ready")).status_code == 200
        _, key = await house.keys.create(name="me", scopes=ROLES["user"])
        async with house.working():
            headers = {"Authorization": f"Bearer {key}"}
            answer = await http.post(PREDICT, json={"instances": [ONE]}, headers=headers)
        assert answer.status_code == 200
