"""The native API over real services and the memory adapters."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from sfumato.api.app import create_app
from sfumato.api.body import MAX_BODY_BYTES
from sfumato.api.context import ApiContext
from sfumato.core.errors import StoreBusy
from sfumato.core.job import Job
from sfumato.core.models import ModelFile, files_digest
from sfumato.core.ports import WorkerKind, WorkerReport
from sfumato.core.request import GenerationRequest
from tests.integration.api.serving import ask, context_of
from tests.support.parts import MODEL, House, open_house

JSON = {"Content-Type": "application/json"}


@dataclass
class Api:
    house: House
    app: FastAPI
    http: httpx.AsyncClient

    async def draw(self, **fields: Any) -> dict[str, Any]:
        """A finished job."""
        async with self.house.working():
            response = await self.http.post(
                "/v1/jobs",
                json={"prompt": "a castle at night", **fields},
                headers={"Prefer": "wait=30"},
            )
        assert response.status_code == 200, response.text
        job: dict[str, Any] = response.json()
        return job


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with open_house() as house:
        app = create_app(context_of(house))
        async with ask(app) as http:
            yield Api(house, app, http)


# -- submission ----------------------------------------------------------------------------------


async def test_a_job_is_accepted_with_its_place_and_why_it_waits(api: Api) -> None:
    first = await api.http.post("/v1/jobs", json={"prompt": "a castle"})
    second = await api.http.post("/v1/jobs", json={"prompt": "a castle", "metadata": {"n": [1]}})
    assert first.status_code == second.status_code == 202
    job = second.json()
    assert second.headers["Location"] == job["links"]["self"] == f"/v1/jobs/{job['id']}"
    assert (job["status"], job["attempts"], job["images"]) == ("queued", 0, [])
    assert job["waiting"] == "queued behind 1"
    assert job["metadata"] == {"n": [1]}
    assert job["created_at"].endswith("+00:00")


async def test_a_job_shows_what_was_asked_and_what_was_used(api: Api) -> None:
    job = await api.draw(seed=str(2**64 - 1), num_images=2, sampler="Euler a")
    assert job["status"] == "succeeded"
    assert job["request"]["sampler"] == "Euler a"
    assert job["request"]["width"] is None
    assert job["used"]["sampler"] == "euler_a"
    assert job["used"]["width"] == 64
    assert job["seed"] == job["used"]["seed"] == 2**64 - 1
    assert [image["seed"] for image in job["images"]] == [2**64 - 1, 0]
    assert sum(job["timings"].values()) > 0
    assert (await api.http.get(job["links"]["self"])).json() == job


async def test_prefer_wait_answers_202_when_time_is_up(api: Api) -> None:
    response = await api.http.post(
        "/v1/jobs", json={"prompt": "a castle"}, headers={"Prefer": "wait=0"}
    )
    assert response.status_code == 202
    assert response.headers["Preference-Applied"] == "wait=0"


async def test_a_key_sent_again_answers_the_same_job(api: Api) -> None:
    key = {"Idempotency-Key": "k" * 255}
    first = await api.http.post("/v1/jobs", json={"prompt": "a castle"}, headers=key)
    again = await api.http.post("/v1/jobs", json={"prompt": "a castle"}, headers=key)
    other = await api.http.post("/v1/jobs", json={"prompt": "a boat"}, headers=key)
    assert first.json()["id"] == again.json()["id"]
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    assert len((await api.http.get("/v1/jobs")).json()["jobs"]) == 1


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"prompt": " \n"}, "invalid_request", "prompt"),
        ({"prompt": "x" * 20_001}, "invalid_request", "prompt"),
        ({"width": 12}, "invalid_request", "width"),
        ({"width": 0}, "invalid_request", "width"),
        ({"height": -8}, "invalid_request", "height"),
        ({"width": 64, "height": 4096}, "invalid_request", "height"),
        ({"num_images": 64, "width": 2048, "height": 2048}, "invalid_request", "num_images"),
        ({"num_inference_steps": 0}, "invalid_request", "num_inference_steps"),
        ({"num_inference_steps": 1000}, "invalid_request", "num_inference_steps"),
        ({"guidance_scale": 51}, "invalid_request", "guidance_scale"),
        ({"seed": -1}, "invalid_request", "seed"),
        ({"seed": 2**64}, "invalid_request", "seed"),
        ({"seed": "18446744073709551616"}, "invalid_request", "seed"),
        ({"priority": 101}, "invalid_request", "priority"),
        ({"metadata": {"big": "x" * 20_000}}, "invalid_request", "metadata"),
        ({"model": "patern"}, "unknown_model", "model"),
        ({"sampler": "eulr"}, "unknown_sampler", "sampler"),
        ({"schedule": "karas"}, "unknown_schedule", "schedule"),
        ({"sampler": "Euler Karras", "schedule": "beta"}, "invalid_request", "schedule"),
        ({"runtime": "defualt"}, "unknown_runtime", "runtime"),
        ({"negativ_prompt": "fog"}, "invalid_request", "negativ_prompt"),
    ],
)
async def test_a_bad_request_names_the_field_and_queues_nothing(
    api: Api, fields: dict[str, Any], code: str, field: str
) -> None:
    response = await api.http.post("/v1/jobs", json={"prompt": "a castle", **fields})
    problem = response.json()
    assert response.status_code == 422
    assert response.headers["Content-Type"] == "application/problem+json"
    assert (problem["code"], problem["field"]) == (code, field)
    assert problem["accepted"]
    assert (await api.http.get("/v1/jobs")).json() == {"jobs": [], "next": None}


async def test_a_full_queue_says_when_to_come_back(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.house.submission, "_max_queued", 1)
    await api.house.submit()
    for path in ("/v1/jobs", "/generate"):
        response = await api.http.post(path, json={"prompt": "a castle"})
        assert (response.status_code, response.json()["code"]) == (429, "overloaded")
        assert int(response.headers["Retry-After"]) >= 1


@pytest.mark.parametrize("key", ["", "k" * 256, "tab\there"])
async def test_an_idempotency_key_has_a_length(api: Api, key: str) -> None:
    response = await api.http.post(
        "/v1/jobs", json={"prompt": "a castle"}, headers={"Idempotency-Key": key}
    )
    assert (response.status_code, response.json()["field"]) == (422, "Idempotency-Key")


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        (JSON, b'{"prompt": "x", "guidance_scale": NaN}', 400, "invalid_json"),
        (JSON, b"prompt=x", 400, "invalid_json"),
        (JSON, b"", 400, "invalid_json"),
        ({"Content-Type": "text/plain"}, b'{"prompt": "x"}', 415, "unsupported_media_type"),
        ({}, b'{"prompt": "x"}', 415, "unsupported_media_type"),
        (JSON, b" " * (MAX_BODY_BYTES + 1), 413, "body_too_large"),
    ],
)
async def test_a_body_that_can_not_be_read(
    api: Api, headers: dict[str, str], body: bytes, status: int, code: str
) -> None:
    response = await api.http.post("/v1/jobs", content=body, headers=headers)
    assert (response.status_code, response.json()["code"]) == (status, code)


async def test_a_body_without_a_length_is_read_no_further_than_the_limit(api: Api) -> None:
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 65_536
            yield b" " * 65_536

    response = await api.http.post("/v1/jobs", content=chunks(), headers=JSON)
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
    assert sent < 2 * MAX_BODY_BYTES


# -- jobs ----------------------------------------------------------------------------------------


async def test_jobs_come_newest_first_page_by_page(api: Api) -> None:
    ids = [(await api.house.submit()).id for _ in range(5)]
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        query = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = (await api.http.get("/v1/jobs", params=query)).json()
        seen += [job["id"] for job in page["jobs"]]
        cursor = page["next"]
    assert seen == ids[::-1]


async def test_jobs_are_filtered_by_status(api: Api) -> None:
    kept, taken_back = await api.house.submit(), await api.house.submit()
    await api.http.post(f"/v1/jobs/{taken_back.id}/cancel")
    page = (await api.http.get("/v1/jobs?status=queued")).json()
    assert [job["id"] for job in page["jobs"]] == [kept.id]


async def test_cancel_twice_is_harmless_and_a_finished_job_is_a_conflict(api: Api) -> None:
    job = await api.house.submit()
    for _ in range(2):
        response = await api.http.post(f"/v1/jobs/{job.id}/cancel")
        assert (response.status_code, response.json()["status"]) == (200, "canceled")
    done = await api.draw()
    response = await api.http.post(done["links"]["cancel"])
    assert (response.status_code, response.json()["code"]) == (409, "job_finished")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/jobs/nope", 404, "not_found"),
        ("GET", "/v1/jobs/nope/events", 404, "not_found"),
        ("GET", "/v1/jobs/nope/images/0", 404, "not_found"),
        ("POST", "/v1/jobs/nope/cancel", 404, "not_found"),
        ("GET", "/v1/models/nope", 404, "not_found"),
        ("GET", "/v1/jobs?cursor=nope", 422, "invalid_request"),
        ("GET", "/v1/jobs?status=done", 422, "invalid_request"),
        ("GET", "/v1/jobs?limit=0", 422, "invalid_request"),
        ("GET", "/v1/jobs?limit=many", 422, "invalid_request"),
        ("GET", "/v1/nope", 404, "no_such_path"),
        ("GET", "/ui/../../pyproject.toml", 404, "no_such_path"),
        ("GET", "/ui/%2e%2e/__init__.py", 404, "no_such_path"),
        ("DELETE", "/v1/jobs", 405, "method_not_allowed"),
    ],
)
async def test_what_is_not_there_is_a_problem_too(
    api: Api, method: str, path: str, status: int, code: str
) -> None:
    response = await api.http.request(method, path)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["Content-Type"] == "application/problem+json"


async def test_a_wrong_method_names_every_right_one(api: Api) -> None:
    assert (await api.http.delete("/v1/jobs")).headers["Allow"] == "GET, POST"


async def test_a_picture_is_cached_for_good(api: Api) -> None:
    job = await api.draw(seed=3)
    (image,) = job["images"]
    response = await api.http.get(image["url"])
    assert response.headers["Content-Type"] == "image/png"
    assert "immutable" in response.headers["Cache-Control"]
    assert response.headers["Content-Disposition"] == f'inline; filename="{job["id"]}-0.png"'
    assert hashlib.sha256(response.content).hexdigest() == image["sha256"]
    assert response.headers["ETag"] == f'"{image["sha256"]}"'
    for etag in (response.headers["ETag"], f'W/"x", W/{response.headers["ETag"]}', "*"):
        again = await api.http.get(image["url"], headers={"If-None-Match": etag})
        assert (again.status_code, again.content) == (304, b"")
    changed = await api.http.get(image["url"], headers={"If-None-Match": '"other"'})
    assert changed.status_code == 200


async def test_a_picture_that_lies_with_us_is_no_redirect(api: Api) -> None:
    (image,) = (await api.draw())["images"]
    answer = await api.http.get(f"{image['url']}?redirect=1")
    assert (answer.status_code, answer.content[:4]) == (200, b"\x89PNG")


async def test_head_answers_the_headers_alone(api: Api) -> None:
    (image,) = (await api.draw())["images"]
    response = await api.http.head(image["url"])
    assert response.headers["Content-Length"] == str(image["size_bytes"])
    for path in ("/", "/healthz", "/readyz"):
        assert (await api.http.head(path)).status_code == 200


async def test_a_picture_that_is_not_there_says_why(api: Api) -> None:
    queued = await api.http.get(f"/v1/jobs/{(await api.house.submit()).id}/images/0")
    assert (queued.status_code, "queued" in queued.json()["detail"]) == (404, True)


# -- events --------------------------------------------------------------------------------------


def numbers(text: str) -> list[int]:
    return [int(line[3:]) for line in text.splitlines() if line.startswith("id:")]


async def test_events_are_replayed_after_a_number_and_then_there_are_none(api: Api) -> None:
    job = await api.draw()
    whole = await api.http.get(job["links"]["events"])
    assert whole.headers["Content-Type"].startswith("text/event-stream")
    assert whole.headers["Cache-Control"] == "no-cache"
    assert whole.headers["X-Accel-Buffering"] == "no"
    seen = numbers(whole.text)
    assert seen == list(range(1, len(seen) + 1))
    assert "event: succeeded" in whole.text
    tail = await api.http.get(job["links"]["events"], headers={"Last-Event-ID": "2"})
    assert numbers(tail.text) == seen[2:]
    assert numbers((await api.http.get(job["links"]["events"] + "?after=3")).text) == seen[3:]
    over = await api.http.get(job["links"]["events"], headers={"Last-Event-ID": str(seen[-1])})
    assert over.status_code == 204
    odd = await api.http.get(job["links"]["events"], headers={"Last-Event-ID": "none"})
    assert numbers(odd.text) == seen


# -- models, runtimes, health --------------------------------------------------------------------


async def test_models_and_their_words(api: Api) -> None:
    listed = (await api.http.get("/v1/models")).json()
    assert "dpmpp_2m" in listed["samplers"]
    (model,) = listed["models"]
    assert (model["name"], model["default"], model["vocabulary"]) == ("pattern", True, None)
    alone = (await api.http.get("/v1/models/pattern")).json()
    assert alone["vocabulary"] == ["a", "at", "castle", "night"]


async def test_models_tell_digest_memory_and_where_they_are_loaded(api: Api) -> None:
    house = api.house
    file = ModelFile("unet/x.safetensors", 4, sha256="ab" * 32)
    known = dataclasses.replace(MODEL, name="known", files=(file,), memory_bytes=7)
    house.catalog.models = (MODEL, known)
    now = house.clock.now()
    for name, seen_at in (("w1", now), ("w2", now - 10), ("gone", now - 1000)):
        await house.workers.seen(
            WorkerReport(name, "default", WorkerKind.LOCAL, "cpu", ("known",), now, seen_at)
        )
    pattern, listed = (await api.http.get("/v1/models")).json()["models"]
    assert (pattern["sha256"], pattern["memory_bytes"], pattern["loaded_on"]) == (None, 0, [])
    assert listed["sha256"] == files_digest(known.files)
    assert listed["memory_bytes"] == 7
    assert listed["loaded_on"] == ["w1", "w2"]
    alone = (await api.http.get("/v1/models/known")).json()
    assert alone | {"vocabulary": None} == listed


async def test_runtimes_say_what_they_do(api: Api) -> None:
    await api.house.submit()
    (runtime,) = (await api.http.get("/v1/runtimes")).json()["runtimes"]
    assert (runtime["name"], runtime["queued"], runtime["running"]) == ("default", 1, 0)


async def test_health_is_the_process_and_readiness_the_store(api: Api) -> None:
    assert (await api.http.get("/healthz")).json()["status"] == "ok"
    assert (await api.http.get("/readyz")).json() == {"ready": True, "waiting_for": []}

    async def broken() -> Sequence[str]:
        raise StoreBusy("The database is locked by another process.")

    context: ApiContext = api.app.state.context
    api.app.state.context = dataclasses.replace(context, ready=broken)
    response = await api.http.get("/readyz")
    assert response.status_code == 503
    assert response.headers["Retry-After"]
    assert response.json()["waiting_for"] == ["The database is locked by another process."]
    assert (await api.http.get("/healthz")).status_code == 200


async def test_root_is_a_health_check_to_a_probe_and_the_page_to_a_browser(api: Api) -> None:
    probe = await api.http.get("/", headers={"Accept": "*/*"})
    assert (probe.status_code, probe.json()) == (200, "OK")
    page = await api.http.get("/", headers={"Accept": "text/html,*/*;q=0.8"})
    assert "<title>Sfumato</title>" in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    script = await api.http.get("/ui/app.js")
    assert script.headers["Content-Type"].startswith("text/javascript")
    assert "default-src 'none'" in script.headers["Content-Security-Policy"]


async def test_every_origin_may_ask_and_may_read_an_error(api: Api) -> None:
    origin = {"Origin": "https://elsewhere.example"}
    asked = {**origin, "Access-Control-Request-Method": "POST"}
    asked["Access-Control-Request-Headers"] = "idempotency-key"
    preflight = await api.http.options("/v1/jobs", headers=asked)
    assert preflight.status_code == 200
    response = await api.http.get("/v1/jobs/nope", headers=origin)
    assert response.headers["Access-Control-Allow-Origin"] == "*"


async def test_the_documentation_knows_every_path(api: Api) -> None:
    schema = (await api.http.get("/openapi.json")).json()
    assert schema["info"]["title"] == "Stable Diffusion Inference API"
    body = schema["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"]["required"] == ["prompt"]
    assert {"/generate", "/v1/jobs/{job_id}/events", "/readyz"} <= set(schema["paths"])
    docs = (await api.http.get("/docs")).text
    files = re.findall(r'(?:src|href)="([^"]+)"', docs)
    assert len(files) == 3
    for file in files:
        assert file.startswith("/"), "nothing comes from another site"
        assert (await api.http.get(file)).status_code == 200


# -- what must not happen ------------------------------------------------------------------------


class Defect(RuntimeError):
    pass


async def test_a_defect_is_a_500_without_internals_and_the_service_goes_on(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def defective(request: GenerationRequest, **_: object) -> Job:
        raise Defect(f"cannot handle {request.prompt}")

    with monkeypatch.context() as patch:
        patch.setattr(api.house.submission, "submit", defective)
        response = await api.http.post(
            "/v1/jobs", json={"prompt": "secret castle"}, headers={"Origin": "https://e.example"}
        )
    assert (response.status_code, response.json()["code"]) == (500, "internal_error")
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "Defect" not in response.text
    assert "Defect" in caplog.text
    assert "secret" not in caplog.text + response.text
    assert (await api.http.get("/healthz")).status_code == 200


async def test_no_prompt_in_any_log_line(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await api.draw(prompt="a zeppelin at night")
    await api.http.post("/v1/jobs", json={"prompt": "a zeppelin", "width": 7})
    await api.http.post("/v1/jobs", content=b'{"prompt": "a zeppelin', headers=JSON)
    ours = [r.getMessage() for r in caplog.records if r.name.startswith("sfumato")]
    assert not [line for line in ours if "zeppelin" in line]


async def test_many_callers_wait_at_once(api: Api) -> None:
    async with api.house.working():
        jobs = await asyncio.gather(
            *(
                api.http.post("/v1/jobs", json={"prompt": "a"}, headers={"Prefer": "wait=30"})
                for _ in range(20)
            )
        )
    assert {job.status_code for job in jobs} == {200}
