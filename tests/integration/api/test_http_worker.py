"""The worker API lets in whom it should, to what is theirs, and says nothing it should not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest

from sfumato.core.job import AttemptOutcome, JobStatus
from tests.integration.api.serving import ask, context_of, create_app, serving
from tests.support.parts import House

PNG = b"\x89PNG picture"


@dataclass
class Caller:
    """A worker that speaks HTTP by hand."""

    http: httpx.AsyncClient
    secret: str
    name: str = "w1"

    async def __call__(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {
            "Authorization": f"Bearer {self.secret}",
            "X-Sfumato-Worker": self.name,
            **more.pop("headers", {}),
        }
        return await self.http.request(method, f"/v1/worker{path}", headers=headers, **more)

    async def claim(self, wait: float = 5.0) -> str:
        """The path of an attempt."""
        answer = await self("POST", "/claim", json={"runtime": "default", "wait": wait})
        assert answer.status_code == 200, answer.text
        job = answer.json()["job"]
        return f"/jobs/{job['id']}/{job['attempt']}"


@pytest.fixture
async def http(house: House) -> AsyncIterator[httpx.AsyncClient]:
    async with ask(create_app(context_of(house))) as http:
        yield http


@pytest.fixture
async def caller(house: House, http: httpx.AsyncClient) -> Caller:
    return await let_in(house, http)


async def let_in(house: House, http: httpx.AsyncClient, name: str = "w1") -> Caller:
    _, secret = await house.access.create(name="pc", runtimes=["default"])
    return Caller(http, secret, name)


# -- who is let in ---------------------------------------------------------------------------------


async def test_a_token_opens_the_door(house: House, caller: Caller) -> None:
    answer = await caller("GET", "")
    (token,) = await house.access.list()
    assert answer.json()["worker"] == f"{token.id}/w1"
    assert (answer.json()["runtimes"], answer.json()["lease"]) == (["default"], 30.0)
    (used,) = await house.access.list()
    assert used.used_at is not None


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer ", "Bearer sfw_wrong", "Basic c2Z3Og==", "Bearer \xff"]
)
async def test_without_a_good_token_nothing_opens(caller: Caller, authorization: str) -> None:
    headers = {"Authorization": authorization.encode("latin-1")}
    for method, path in (("GET", ""), ("POST", "/claim"), ("GET", "/models/pattern")):
        answer = await caller(method, path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_an_expired_token_is_refused(house: House, caller: Caller) -> None:
    _, caller.secret = await house.access.create(name="pc", runtimes=["default"], expires_in=-1.0)
    answer = await caller("GET", "")
    assert answer.status_code == 401
    assert "expired" in answer.json()["detail"]


async def test_a_token_is_for_its_runtimes_alone(house: House, caller: Caller) -> None:
    for body in ({"runtime": "large"}, {"runtime": "large", "wait": 1}):
        answer = await caller("POST", "/claim", json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_a_revoked_token_is_refused_and_its_jobs_go_to_others(
    house: House, http: httpx.AsyncClient, caller: Caller
) -> None:
    job = await house.submit()
    path = await caller.claim()
    (token,) = await house.access.list()
    await house.access.revoke(token.id)
    for method, below in (("GET", ""), ("POST", f"{path}/complete"), ("POST", "/heartbeat")):
        answer = await caller(method, below, json={"holding": []})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    other = await let_in(house, http)
    assert await other.claim() == f"/jobs/{job.id}/2"
    first, _ = await house.store.attempts(job.id)
    assert first.outcome is AttemptOutcome.RELEASED
    assert "revoked" in (first.reason or "")


async def test_a_token_revoked_while_it_waits_for_a_job_gets_none(
    house: House, caller: Caller
) -> None:
    waiting = asyncio.create_task(caller("POST", "/claim", json={"runtime": "default", "wait": 20}))
    await asyncio.sleep(0.1)
    (token,) = await house.access.list()
    await house.access.revoke(token.id)
    job = await house.submit()
    assert (await waiting).status_code == 401
    assert (await house.store.get(job.id)).status is JobStatus.QUEUED


@pytest.mark.parametrize("name", ["", "a/b", "x" * 101, "sn\u00f6", "a b", "../w1"])
async def test_a_workers_name_can_reach_nothing_else(caller: Caller, name: str) -> None:
    answer = await caller("GET", "", headers={"X-Sfumato-Worker": name.encode()})
    assert (answer.status_code, answer.json()["field"]) == (422, "X-Sfumato-Worker")


# -- to what is theirs -----------------------------------------------------------------------------


async def test_no_worker_touches_anothers_attempt(
    house: House, http: httpx.AsyncClient, caller: Caller
) -> None:
    """Neither another token's of the same name, nor another worker of the same token."""
    job = await house.submit()
    path = await caller.claim()
    strangers = [await let_in(house, http), replace(caller, name="w2")]
    for stranger in strangers:
        image = {"Content-Type": "image/png"}
        tried = [
            await stranger("POST", f"{path}/loading", json={}),
            await stranger("POST", f"{path}/progress", json={"step": 1, "steps": 2}),
            await stranger("POST", f"{path}/images/0/upload", json={"media_type": "image/png"}),
            await stranger("PUT", f"{path}/images/0", content=PNG, headers=image),
            await stranger("POST", f"{path}/checkpoints/0/upload"),
            await stranger("PUT", f"{path}/checkpoints/0", content=PNG),
            await stranger("GET", f"{path}/checkpoints/0"),
        ]
        assert {answer.status_code for answer in tried} == {409}
        assert {answer.json()["code"] for answer in tried} == {"attempt_lost"}
        error = {"code": "x", "message": "y", "retryable": False}
        for answer in (
            await stranger("POST", f"{path}/canceled"),
            await stranger("POST", f"{path}/fail", json=error),
            await stranger("POST", f"{path}/release", json={"reason": "z", "resumable": False}),
        ):
            assert answer.json() == {"accepted": False}
        held = [{"job_id": job.id, "attempt": 1}]
        answer = await stranger("POST", "/heartbeat", json={"holding": held})
        assert answer.json() == {"states": ["lost"]}
        answer = await stranger("POST", f"{path}/watch", json={"wait": 0})
        assert answer.json() == {"revocation": "lost"}
        await stranger("POST", "/leave", json={})
    assert (await house.store.get(job.id)).status is JobStatus.RUNNING


async def test_a_worker_is_told_what_to_draw_and_no_more(house: House, caller: Caller) -> None:
    await house.submit("a castle", metadata={"customer": "secret"})
    body = {"runtime": "default", "wait": 5}
    answer = await caller("POST", "/claim", json=body)
    assert answer.json()["job"]["request"]["prompt"] == "a castle"
    assert "secret" not in answer.text
    assert {"path", "source"}.isdisjoint(answer.json()["model"])


async def test_a_picture_that_is_not_there_completes_nothing(house: House, caller: Caller) -> None:
    job = await house.submit(num_images=2)
    path = await caller.claim()
    done = {
        "index": 0,
        "media_type": "image/png",
        "width": 64,
        "height": 64,
        "size_bytes": len(PNG),
        "sha256": "ab" * 32,
        "seed": 7,
    }
    body: dict[str, Any] = {"images": [done], "timings": {}, "recipe": {}}
    few = await caller("POST", f"{path}/complete", json=body)
    assert (few.status_code, few.json()["field"]) == (422, "images")
    body["images"] = [done, {**done, "index": 1}]
    missing = await caller("POST", f"{path}/complete", json=body)
    assert (missing.status_code, missing.json()["field"]) == (422, "size_bytes")
    for index in (0, 1):
        put = await caller(
            "PUT", f"{path}/images/{index}", content=PNG, headers={"Content-Type": "image/png"}
        )
        assert put.status_code == 204
    body["images"][1]["size_bytes"] += 1
    assert (await caller("POST", f"{path}/complete", json=body)).status_code == 422
    assert (await house.store.get(job.id)).status is JobStatus.RUNNING
    body["images"][1]["size_bytes"] -= 1
    assert (await caller("POST", f"{path}/complete", json=body)).json() == {"accepted": True}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/claim", {"runtime": "default", "wait": 31}),
        ("/claim", {"runtime": "default", "wait": -1}),
        ("/claim", {"runtime": "default", "hold": []}),
        ("/claim", {"runtime": "default", "holding": [{"job_id": "x", "attempt": 0}]}),
        ("/claim", []),
        ("/heartbeat", {"holding": [{"job_id": "x", "attempt": 1}] * 1025}),
        ("/heartbeat", {}),
        ("/presence", {"runtime": "default", "device": "x" * 201, "started_at": 1}),
        ("{path}/progress", {"step": -1, "steps": 2}),
        ("{path}/progress", {"step": 1, "steps": 2, "preview": "javascript:alert(1)"}),
        ("{path}/images/0", {"size_bytes": "many"}),
        ("{path}/images/64", {"size_bytes": 1}),
        ("{path}/images/-1", {"size_bytes": 1}),
        ("{path}/images/1", {"size_bytes": 1}),
        ("{path}/images/0/upload", {"media_type": "text/html"}),
        ("{path}/fail", {"code": "Not A Code", "message": "", "retryable": True}),
        ("{path}/complete", {"images": [], "timings": {}, "recipe": {}}),
    ],
)
async def test_what_makes_no_sense_is_refused_by_name(
    house: House, caller: Caller, path: str, body: Any
) -> None:
    job = await house.submit()
    where = path.format(path=await caller.claim())
    before = await house.kinds(job)
    answer = await caller("POST", where, json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert await house.kinds(job) == before


async def test_a_body_is_read_no_further_than_allowed(house: House, caller: Caller) -> None:
    await house.submit()
    path = await caller.claim()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1 << 20)

    for below, kind in (("images/0", "image/png"), ("checkpoints/0", "application/octet-stream")):
        headers = {"Content-Type": kind}
        answer = await caller("PUT", f"{path}/{below}", content=endless(), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


async def test_a_page_can_not_be_stored_as_a_picture(house: House, caller: Caller) -> None:
    await house.submit()
    path = await caller.claim()
    headers = {"Content-Type": "text/html"}
    answer = await caller("PUT", f"{path}/images/0", content=b"<script>", headers=headers)
    assert answer.status_code == 415


async def test_a_worker_that_hangs_up_takes_no_job_with_it(house: House) -> None:
    """Whether or not the service noticed before the job came."""
    async with serving(context_of(house)) as address, httpx.AsyncClient(base_url=address) as http:
        caller = await let_in(house, http)
        with pytest.raises(httpx.ReadTimeout):
            await caller("POST", "/claim", json={"runtime": "default", "wait": 20}, timeout=0.2)
        job = await house.submit()
        assert (await caller("POST", "/leave", json={})).status_code == 204
        other = await let_in(house, http, "w2")
        assert (await other.claim()).startswith(f"/jobs/{job.id}/")


async def test_who_is_at_work_is_listed(house: House, caller: Caller) -> None:
    body = {"runtime": "default", "device": "RTX", "models": ["pattern"], "started_at": 1.8e9}
    assert (await caller("POST", "/presence", json=body)).status_code == 204
    (found,) = (await caller.http.get("/v1/workers")).json()["workers"]
    assert found["name"].endswith("/w1")
    assert (found["kind"], found["device"], found["models"]) == ("remote", "RTX", ["pattern"])
    assert (await caller("POST", "/leave", json={})).status_code == 204
    assert (await caller.http.get("/v1/workers")).json() == {"workers": []}


async def test_no_secret_is_logged(
    house: House, caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await house.submit()
    await caller.claim()
    await caller("POST", "/claim", json={"runtime": "large"})
    (token,) = await house.access.list()
    await house.access.revoke(token.id)
    answer = await caller("GET", "")
    assert caller.secret not in caplog.text + answer.text + repr(token)
    assert token.digest not in caplog.text + answer.text + repr(token)


# -- scaling ---------------------------------------------------------------------------------------


async def test_the_scaling_signal_counts_jobs_and_workers(house: House, caller: Caller) -> None:
    for _ in range(18):
        await house.submit()
    await caller.claim()
    signal = (await caller.http.get("/v1/scaling/default")).json()
    assert signal.pop("oldest_seconds") >= 0
    assert signal == {"queued": 17, "running": 1, "open": 18, "desired": 1}
    unknown = await caller.http.get("/v1/scaling/none")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
