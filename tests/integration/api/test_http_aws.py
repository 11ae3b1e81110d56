"""The AWS samples' APIs: tasks in, results where ``output_location`` says, one caller's from another's."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from sfumato.api.dialects import render
from sfumato.core.errors import EngineFailure
from sfumato.core.job import JobStatus
from sfumato.core.keys import ROLES, KeyLimits
from sfumato.core.ports import Slot
from sfumato.core.webhooks import Webhook, told_as
from sfumato.engine.fake import FakeEngine
from tests.integration.api.serving import context_of, serving
from tests.support.aws_tasks import V0, V1ALPHA1, V1ALPHA2, changed
from tests.support.parts import House
from tests.support.png import png


async def results(house: House, http: httpx.AsyncClient, answer: httpx.Response) -> Any:
    """What lies at the output location once the job has ended."""
    await house.finished(await house.tracking.get(answer.headers["X-Sfumato-Job"]))
    return (await http.get(answer.json()["output_location"])).json()


async def test_v0_is_taken_at_once_and_its_results_lie_where_it_says(
    house: House, http: httpx.AsyncClient
) -> None:
    answer = await http.post("/", json=V0)
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "id_task": "307",
            "task": "text-to-image",
            "sd_model_checkpoint": "pattern.safetensors",
            "output_location": f"{http.base_url}/task-results/307",
        },
    )
    waiting = (await http.get(answer.json()["output_location"])).json()
    assert (waiting["status"], waiting["result"], waiting["output_url"]) == ("queued", None, None)
    async with house.working():
        report = await results(house, http, answer)
    assert (report["id"], report["status"], report["result"]) == ("307", "completed", True)
    document = (await http.get(report["output_url"])).json()
    assert re.search(r"/task-results/307/response-[0-9a-f-]{36}\.out$", report["output_url"])
    assert (document["images"], document["info"]) == ([""], "")
    told = document["parameters"]
    assert (told["prompt"], told["steps"]) == ("a castle at night", 2)
    assert (told["id_task"], told["status"], told["error_msg"]) == ("307", 1, "")
    assert (told["image_seed"], told["image_url"]) == ("7", report["image_url"][0])
    assert re.search(r"/307/\d{14}-[0-9a-f-]{36}\.png$", told["image_url"])
    picture = await http.get(told["image_url"])
    assert (picture.headers["Content-Type"], picture.content[:4]) == ("image/png", b"\x89PNG")


async def test_v1alpha1_has_a_folder_of_its_own(house: House, http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1alpha1", json=V1ALPHA1)
    assert answer.json() == {
        "id_task": "a1",
        "task": "text-to-image",
        "sd_model_checkpoint": "pattern.safetensors",
        "output_location": f"{http.base_url}/task-results/out/a1",
    }
    async with house.working():
        report = await results(house, http, answer)
    assert "/task-results/out/a1/" in report["output_url"]


async def test_v1alpha2_echoes_its_context(house: House, http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1alpha2", json=V1ALPHA2)
    location = f"{http.base_url}/task-results/out/deep/a2"
    assert answer.json() == {
        "id_task": "a2",
        "id": "a2",
        "runtime": "default",
        "output_location": location,
    }
    async with house.working():
        report = await results(house, http, answer)
    short = re.search(r"a2-([0-9a-f]{4})\.out$", report["output_url"])
    assert short is not None
    assert report == {
        "runtime": "default",
        "id": "a2",
        "status": "completed",
        "result": True,
        "image_url": [f"{location}/a2-{short[1]}-{n}.png" for n in (1, 2)],
        "output_url": f"{location}/a2-{short[1]}.out",
        "context": {"user": [1]},
    }
    document = (await http.get(report["output_url"])).json()
    assert document["parameters"]["image_seed"] == "7,8"
    assert (await http.get(report["image_url"][1])).headers["Content-Type"] == "image/png"


async def test_the_task_may_stand_without_its_envelope(http: httpx.AsyncClient) -> None:
    assert (await http.post("/v1alpha2", json=V1ALPHA2["task"])).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/", changed(V0, alwayson_scripts=...), "alwayson_scripts is missing"),
        ("/", changed(V0, alwayson_scripts__task=...), "task is missing"),
        ("/", changed(V0, steps=500), "steps is 500"),
        ("/", changed(V0, steps=0), "steps is 0"),
        ("/", changed(V0, width=500), "width is 500"),
        ("/", changed(V0, alwayson_scripts__sd_model_checkpoint="patern"), "'pattern'"),
        ("/", changed(V0, alwayson_scripts__controlnet={"args": []}), "controlnet: not drawn"),
        ("/v1alpha1", changed(V1ALPHA1, alwayson_scripts=7), "alwayson_scripts is missing"),
        (
            "/v1alpha1",
            changed(V1ALPHA1, alwayson_scripts__sd_model_checkpoint=...),
            "sd_model_checkpoint is missing",
        ),
        ("/v1alpha1", changed(V1ALPHA1, alwayson_scripts__id_task=...), "id_task is missing"),
        ("/v1alpha1", changed(V1ALPHA1, alwayson_scripts__id_task="a b"), "invalid id_task format"),
        ("/v1alpha1", changed(V1ALPHA1, alwayson_scripts__task="dance"), "invalid task type"),
        (
            "/v1alpha1",
            changed(V1ALPHA1, alwayson_scripts__task="extra-single-image"),
            "extra-single-image are not drawn here",
        ),
        ("/v1alpha1", [], "no JSON object"),
        ("/v1alpha2", {"task": {}}, "metadata is missing"),
        ("/v1alpha2", changed(V1ALPHA2, task__metadata__id=...), "id is missing"),
        ("/v1alpha2", changed(V1ALPHA2, task__metadata__runtime=...), "runtime is missing"),
        ("/v1alpha2", changed(V1ALPHA2, task__metadata__tasktype=...), "tasktype is missing"),
        ("/v1alpha2", changed(V1ALPHA2, task__content=...), "content is missing"),
        ("/v1alpha2", changed(V1ALPHA2, task__metadata__id="a/b"), "invalid id format"),
        ("/v1alpha2", changed(V1ALPHA2, task__metadata__tasktype="dance"), "invalid tasktype"),
        ("/v1alpha2", changed(V1ALPHA2, task__metadata__runtime=7), "invalid runtime format"),
        ("/v1alpha2", changed(V1ALPHA2, task__metadata__runtime="x"), "'x', which there is not"),
        ("/v1alpha2", changed(V1ALPHA2, task__metadata__prefix="../up"), "prefix"),
        ("/v1alpha2", changed(V1ALPHA2, task__metadata__context="x" * 20_000), "context"),
    ],
)
async def test_what_is_wrong_is_a_400_in_words(
    house: House, http: httpx.AsyncClient, path: str, body: Any, words: str
) -> None:
    answer = await http.post(path, json=body)
    assert answer.status_code == 400
    if body != []:
        assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.text.startswith("Incorrect payload structure, ")
    assert words in answer.text
    assert not (await house.tracking.list()).jobs


@pytest.mark.parametrize("path", ["/v1alpha1", "/v1alpha2"])
async def test_errors_before_the_payload(http: httpx.AsyncClient, path: str) -> None:
    headers = {"Content-Type": "application/json"}
    broken = await http.post(path, content=b"{", headers=headers)
    assert (broken.status_code, broken.text[:22]) == (400, "Invalid request format")
    large = await http.post(path, json={"a": ["x"] * 400_000})
    assert (large.status_code, "payload too large" in large.text) == (413, True)
    method = await http.get(path)
    assert (method.status_code, method.text) == (405, "Unsupported HTTP method")
    form = await http.post(path, data={"a": "b"})
    assert (form.status_code, "Content-Type" in form.json()["message"]) == (415, True)


async def test_a_body_of_neither_api_is_told_of_both(http: httpx.AsyncClient) -> None:
    for body in ({}, [], {"prompt": "a castle"}):
        answer = await http.post("/", json=body)
        assert answer.status_code == 422
        assert "inputs" in answer.json()["error"]
        assert "sdname" in answer.json()["message"]
    broken = await http.post("/", content=b"{", headers={"Content-Type": "application/json"})
    assert (broken.status_code, broken.json()["error"]) == (400, broken.json()["message"])
    assert (await http.get("/")).json() == "OK"


async def test_the_same_payload_is_the_same_task(house: House, http: httpx.AsyncClient) -> None:
    random = changed(V0, seed=-1)
    first, again = [await http.post("/", json=random) for _ in range(2)]
    assert first.headers["X-Sfumato-Job"] == again.headers["X-Sfumato-Job"]
    other = await http.post("/", json=changed(V0, prompt="a castle"))
    assert other.status_code == 409
    assert "another task's" in other.json()["message"]
    assert len((await house.tracking.list()).jobs) == 1


async def test_a_failure_is_told_like_a_success(house: House, http: httpx.AsyncClient) -> None:
    def fail(_slots: Sequence[Slot]) -> None:
        raise EngineFailure("The network went out for lunch.")

    async with house.working(FakeEngine(before_step=fail)):
        newer = await results(house, http, await http.post("/v1alpha2", json=V1ALPHA2))
        older = await results(house, http, await http.post("/", json=V0))
    assert (newer["status"], newer["result"], newer["image_url"]) == ("failed", False, [])
    for report in (newer, older):
        told = (await http.get(report["output_url"])).json()["parameters"]
        assert (told["status"], told["error_msg"]) == (0, "The network went out for lunch.")
        assert told["reason"] == EngineFailure.code


async def test_a_task_that_is_taken_back_has_failed(house: House, http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1alpha2", json=V1ALPHA2)
    await house.tracking.cancel(answer.headers["X-Sfumato-Job"])
    report = (await http.get(answer.json()["output_location"])).json()
    assert report["status"] == "failed"
    document = (await http.get(report["output_url"])).json()
    assert document["parameters"]["reason"] == "canceled"


async def test_image_to_image_from_base64(house: House, http: httpx.AsyncClient) -> None:
    picture = base64.b64encode(png(64, 64)).decode()
    body = changed(
        V0,
        alwayson_scripts__task="image-to-image",
        init_images=[picture],
        denoising_strength=0.4,
        mask=picture,
    )
    answer = await http.post("/", json=body)
    job = await house.tracking.get(answer.headers["X-Sfumato-Job"])
    assert job.request.init_image is not None
    assert job.request.inpainting is not None
    assert job.request.strength == 0.4
    async with house.working():
        report = await results(house, http, answer)
    told = (await http.get(report["output_url"])).json()["parameters"]
    assert not {"init_images", "mask"} & told.keys()


async def test_a_picture_is_fetched_from_where_callers_may_and_nowhere_else(
    house: House, http: httpx.AsyncClient
) -> None:
    header = {**V0["alwayson_scripts"], "task": "image-to-image"}
    drawn = await house.submit()
    async with house.working():
        await house.finished(drawn)
    link = f"{http.base_url}/v1/jobs/{drawn.id}/images/0"
    taken = await http.post("/", json={**V0, "alwayson_scripts": {**header, "image_link": link}})
    assert taken.status_code == 200, taken.text
    for bad in ("s3://bucket/key.png", "http://169.254.169.254/latest", "file:///etc/passwd"):
        refused = await http.post(
            "/", json={**V0, "alwayson_scripts": {**header, "image_link": bad}}
        )
        assert refused.status_code == 400
        assert "image_link" in refused.text


async def test_one_caller_sees_nothing_of_another_s(house: House) -> None:
    _, mine = await house.keys.create(name="me", scopes=ROLES["user"])
    _, theirs = await house.keys.create(
        name="they", scopes=ROLES["user"], limits=KeyLimits(rate=0.001, burst=1)
    )
    async with (
        serving(context_of(house, key_required=True)) as url,
        httpx.AsyncClient(base_url=url, headers={"x-api-key": mine}) as http,
        httpx.AsyncClient(base_url=url, headers={"x-api-key": theirs}) as other,
        house.working(),
    ):
        answer = await http.post("/", json=V0)
        report = await results(house, http, answer)
        for hidden in (answer.json()["output_location"], *report["image_url"]):
            missing = await other.get(hidden)
            assert (missing.status_code, "message" in missing.json()) == (404, True)
        their = await other.post("/", json=V0)
        assert their.status_code == 200
        assert their.headers["X-Sfumato-Job"] != answer.headers["X-Sfumato-Job"]
        busy = await other.post("/v1alpha1", json=V1ALPHA1)
        assert (busy.status_code, "Retry-After" in busy.headers) == (429, True)
        for path in ("/", "/v1alpha1", "/v1alpha2", "/task-results/307"):
            method = "GET" if path.startswith("/task") else "POST"
            stranger = await http.request(method, path, json=V0, headers={"x-api-key": "sfk_x"})
            assert (stranger.status_code, "key" in stranger.json()["message"]) == (401, True)


async def test_the_key_s_webhook_is_told_in_the_api_s_form(house: House) -> None:
    _, secret = await house.keys.create(
        name="me", scopes=ROLES["user"], webhook=Webhook("http://127.0.0.1:1/hook")
    )
    async with (
        serving(context_of(house, key_required=True)) as url,
        httpx.AsyncClient(base_url=url, headers={"x-api-key": secret}) as http,
        house.working(),
    ):
        answer = await http.post("/v1alpha2", json=V1ALPHA2)
        report = await results(house, http, answer)
    job = await house.store.get(answer.headers["X-Sfumato-Job"])
    telling = await house.hooks.get(job.id)
    told = [
        render(telling, job, event, kind)
        for event in await house.store.events(job.id)
        if (kind := told_as(event.kind)) in telling.webhook.events and kind is not None
    ]
    assert job.status is JobStatus.SUCCEEDED
    assert told == [
        {"runtime": "default", "id": "a2", "status": "running", "context": {"user": [1]}},
        report,
    ]
