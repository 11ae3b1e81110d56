"""Predictions: Cog's wire over HTTP, what it refuses, and how long a prediction lives."""

from __future__ import annotations

import asyncio
import base64
import json
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

INPUT = {"prompt": "a castle at night", "seed": 7}
BODY = {"input": INPUT}
ASYNC = {"Prefer": "respond-async"}


def picture(data_url: str) -> bytes:
    head, _, encoded = data_url.partition(",")
    assert head == "data:image/png;base64"
    return base64.b64decode(encoded, validate=True)


async def test_a_prediction_is_answered_with_its_pictures_once_it_has_ended(api: Api) -> None:
    async with api.house.working():
        answer = await api.http.post("/predictions", json={"input": {**INPUT, "num_outputs": 2}})
    assert answer.status_code == 200
    prediction = answer.json()
    assert prediction["status"] == "succeeded"
    assert prediction["error"] is None
    assert prediction["input"] == {**INPUT, "num_outputs": 2}
    assert prediction["metrics"]["predict_time"] >= 0
    pictures = [picture(url) for url in prediction["output"]]
    stored = [await api.house.tracking.image(prediction["id"], index) for index in range(2)]
    assert pictures == [each.data for each in stored]
    assert "Using seed: 7" in prediction["logs"]
    assert "100%|####################| 8/8" in prediction["logs"]


async def test_put_twice_is_one_job_and_another_body_a_conflict(api: Api) -> None:
    first = await api.http.put("/predictions/mine", json=BODY, headers=ASYNC)
    again = await api.http.put("/predictions/mine", json=BODY, headers=ASYNC)
    assert [first.status_code, again.status_code] == [202, 202]
    assert first.json()["id"] == again.json()["id"] == "mine"
    assert len((await api.house.tracking.list()).jobs) == 1
    other = {"input": {"prompt": "a castle"}}
    conflict = await api.http.put("/predictions/mine", json=other, headers=ASYNC)
    assert conflict.status_code == 409
    assert conflict.json()["code"] == "idempotency_conflict"
    async with api.house.working():
        done = await api.http.put("/predictions/mine", json={**BODY, "id": "mine"})
    assert done.status_code == 200
    assert done.json()["status"] == "succeeded"
    got = await api.http.get("/predictions/mine")
    assert got.json() == done.json()
    wrong = await api.http.put("/predictions/mine", json={**BODY, "id": "yours"})
    assert (wrong.status_code, wrong.json()["field"]) == (422, "id")


async def test_who_does_not_want_to_wait_need_not(api: Api) -> None:
    made = await api.http.post("/predictions", json=BODY, headers=ASYNC)
    assert made.status_code == 202
    assert made.json()["status"] == "starting"
    assert made.json()["output"] is None
    briefly = await api.http.post("/predictions", json=BODY, headers={"Prefer": "wait=0"})
    assert briefly.status_code == 202
    cancel = f"/predictions/{made.json()['id']}/cancel"
    assert (await api.http.post(cancel)).json() == {}
    assert (await api.http.post(cancel)).status_code == 200
    got = await api.http.get(f"/predictions/{made.json()['id']}")
    assert got.json()["status"] == "canceled"
    assert (await api.http.post("/predictions/none/cancel")).status_code == 404


async def test_a_failed_prediction_says_why(api: Api) -> None:
    def fail(_slots: Sequence[Slot]) -> None:
        raise EngineFailure("The brush broke.")

    async with api.house.working(FakeEngine(before_step=fail)):
        answer = await api.http.post("/predictions", json=BODY)
    assert answer.status_code == 200
    assert answer.json()["status"] == "failed"
    assert "The brush broke." in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "input"),
        ({"input": {}}, "input.prompt"),
        ({"input": {"prompt": " "}}, "input.prompt"),
        ({"input": {**INPUT, "num_outputs": 65}}, "input.num_outputs"),
        ({"input": {**INPUT, "width": 65}}, "input.width"),
        ({"input": {**INPUT, "scheduler": "magic"}}, "input.scheduler"),
        ({"input": {**INPUT, "refine": "expert"}}, "input.refine"),
        ({"input": {**INPUT, "mask": "data:image/png;base64,AAAA"}}, "input.mask"),
        ({"input": {**INPUT, "image": "data:image/png;base64,AAAA"}}, "input.image"),
        ({"input": {**INPUT, "prompt_strength": 0.5, "image": 1}}, "input.image"),
        ({"input": {**INPUT, "lora": "none"}}, "input.lora"),
        ({**BODY, "version": "nothing"}, "version"),
        ({**BODY, "model": "nothing"}, "model"),
        ({"input": {"prompt": "x", "model": "nothing"}}, "input.model"),
        ({**BODY, "id": "a/b"}, "id"),
        ({**BODY, "webhook": "file:///etc/passwd"}, "webhook"),
        ({**BODY, "webhook": "https://x.test", "webhook_events_filter": ["all"]}, None),
        ({**BODY, "context": {}}, "context"),
    ],
)
async def test_what_can_not_be_honoured_is_refused_by_its_name(
    api: Api, body: dict[str, Any], field: str | None
) -> None:
    for path in ("/predictions", "/v1/predictions"):
        answer = await api.http.post(path, json=body)
        assert answer.status_code == 422, answer.text
        problem = answer.json()
        assert {"title", "detail", "status"} <= problem.keys()
        assert problem["status"] == 422
        if field is not None:
            assert problem["field"] == field
    assert not (await api.house.tracking.list()).jobs


async def test_no_prediction_is_taken_back_by_itself(api: Api) -> None:
    headers = {"Cancel-After": "1m"}
    for method, path in (("POST", "/predictions"), ("PUT", "/predictions/mine")):
        answer = await api.http.request(method, path, json=BODY, headers=headers)
        assert (answer.status_code, answer.json()["field"]) == (422, "Cancel-After")
    assert not (await api.house.tracking.list()).jobs


async def test_a_picture_and_a_mask_are_brought_as_data_urls(api: Api) -> None:
    drawn = await api.draw()
    image = await api.house.tracking.image(drawn["id"], 0)
    url = "data:image/png;base64," + base64.b64encode(image.data).decode()
    body = {"input": {**INPUT, "image": url, "mask": url, "prompt_strength": 0.5}}
    answer = await api.http.post("/predictions", json=body, headers=ASYNC)
    assert answer.status_code == 202, answer.text
    job = await api.house.tracking.get(answer.json()["id"])
    assert job.request.strength == 0.5
    assert job.request.inpainting is not None
    again = await api.http.get(answer.json()["input"]["mask"])
    assert again.content == image.data


@pytest.mark.parametrize(
    ("scheduler", "sampler", "schedule"),
    [
        ("K_EULER", "euler", None),
        ("K_EULER_ANCESTRAL", "euler_a", None),
        ("KarrasDPM", "dpmpp_2m", "karras"),
        ("DPMSolverMultistep", "dpmpp_2m", None),
        ("HeunDiscrete", "heun", None),
        ("DDIM", "ddim", None),
        ("PNDM", "plms", None),
    ],
)
async def test_schedulers_have_the_names_of_replicate_s_models(
    api: Api, scheduler: str, sampler: str, schedule: str | None
) -> None:
    body = {"input": {**INPUT, "scheduler": scheduler}}
    answer = await api.http.post("/predictions", json=body, headers=ASYNC)
    assert answer.status_code == 202, answer.text
    job = await api.house.tracking.get(answer.json()["id"])
    assert (job.settings.sampler, job.settings.schedule) == (sampler, schedule)


async def test_what_happens_is_streamed_in_cog_s_events(api: Api) -> None:
    async with api.house.working():
        answer = await api.http.post(
            "/predictions", json=BODY, headers={"Accept": "text/event-stream"}
        )
    assert answer.headers["content-type"].startswith("text/event-stream")
    frames = [frame.split("\n") for frame in answer.text.split("\n\n") if "event:" in frame]
    told = [(kind.removeprefix("event: "), json.loads(data[6:])) for kind, data in frames]
    kinds = [kind for kind, _ in told]
    assert [kinds[0], *kinds[-2:]] == ["start", "output", "completed"]
    assert set(kinds[1:-2]) == {"log"}
    final = told[-1][1]
    assert final["status"] == "succeeded"
    assert told[0][1] == {"id": final["id"], "status": "processing"}
    assert told[-2][1] == {"chunk": final["output"][0], "index": 0}


async def test_who_hangs_up_takes_back_what_has_no_name() -> None:
    async with open_house() as house, serving(context_of(house)) as url:
        async with httpx.AsyncClient(base_url=url) as http:
            for path in ("/predictions", "/predictions/kept"):
                method = "POST" if path == "/predictions" else "PUT"
                asking = asyncio.create_task(http.request(method, path, json=BODY))
                while not any(
                    job.status is JobStatus.QUEUED for job in (await house.tracking.list()).jobs
                ):
                    await asyncio.sleep(0.01)  # the store tells nobody of a new job
                asking.cancel()
                await asyncio.wait((asking,))
                job = (await house.tracking.list(limit=1)).jobs[0]
                if method == "POST":
                    ended = await house.tracking.wait(job.id, timeout=30)
                    assert ended.status is JobStatus.CANCELED
        async with house.working():
            ended = await house.tracking.wait(job.id, timeout=30)
    assert ended.status is JobStatus.SUCCEEDED


async def test_the_health_check_says_whether_predictions_are_taken(api: Api) -> None:
    answer = await api.http.get("/health-check")
    assert answer.json()["status"] == "READY"
    assert answer.json()["setup"] == {"status": "succeeded", "logs": ""}
    api.app.state.context.stopping.set()
    answer = await api.http.get("/health-check")
    assert (answer.status_code, answer.json()["status"]) == (200, "STARTING")


async def test_the_document_has_cog_s_schemas(api: Api) -> None:
    document = (await api.http.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    assert schemas["Input"]["required"] == ["prompt"]
    orders = [field["x-order"] for field in schemas["Input"]["properties"].values()]
    assert orders == list(range(len(orders)))
    assert schemas["Output"]["items"] == {"type": "string", "format": "uri"}
    body = document["paths"]["/predictions"]["post"]["requestBody"]["content"]
    reference = {"$ref": "#/components/schemas/PredictionRequest"}
    assert body["application/json"]["schema"] == reference


async def test_anothers_prediction_is_not_there() -> None:
    async with open_house() as house:
        app = create_app(context_of(house, key_required=True))
        _, mine = await house.keys.create(name="me", scopes=ROLES["user"])
        _, other = await house.keys.create(name="you", scopes=ROLES["user"])
        async with ask(app) as http:
            assert (await http.post("/predictions", json=BODY)).status_code == 401
            me, you = ({"Authorization": f"Bearer {key}"} for key in (mine, other))
            await http.put("/predictions/x", json=BODY, headers={**me, **ASYNC})
            job = (await http.get("/v1/predictions", headers=me)).json()["results"][0]
            assert (await http.get("/v1/predictions", headers=you)).json()["results"] == []
            names = ("x", job["urls"]["get"].rpartition("/")[2])
            for name in names:
                assert (await http.get(f"/predictions/{name}", headers=me)).status_code == 200
                for method, path in (
                    ("GET", f"/predictions/{name}"),
                    ("POST", f"/predictions/{name}/cancel"),
                    ("GET", f"/v1/predictions/{name}"),
                    ("POST", f"/v1/predictions/{name}/cancel"),
                    ("GET", f"/v1/predictions/{name}/stream"),
                ):
                    answer = await http.request(method, path, headers=you)
                    assert answer.status_code == 404, path
            # Ids are each caller's own.
            made = await http.put("/predictions/x", json=BODY, headers={**you, **ASYNC})
            assert made.status_code == 202
    assert made.json()["urls"] != job["urls"]
