"""Submitting to the native API: what is accepted, what is refused, and what must not happen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sfumato.api.inputs import MAX_JOB_BYTES
from sfumato.core.job import Job
from sfumato.core.request import GenerationRequest
from tests.integration.api.serving import Api

JSON = {"Content-Type": "application/json"}


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
        (JSON, b" " * (MAX_JOB_BYTES + 1), 413, "body_too_large"),
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
            sent += 1 << 20
            yield b" " * (1 << 20)

    response = await api.http.post("/v1/jobs", content=chunks(), headers=JSON)
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
    assert sent < 2 * MAX_JOB_BYTES


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
