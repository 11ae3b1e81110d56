"""Keys over HTTP: who is let in, what he sees, and what he may use."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator

import pytest

from sfumato.core.keys import ROLES, KeyLimits
from tests.integration.api.serving import Api, ask, context_of
from tests.support.parts import House, open_house

from sfumato.api.app import create_app  # isort: skip

BODY = {"prompt": "a castle at night"}


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    """A service that asks for keys."""
    async with open_house() as house:
        app = create_app(context_of(house, key_required=True))
        async with ask(app) as http:
            yield Api(house, app, http)


async def key(house: House, role: str = "user", **more: object) -> dict[str, str]:
    """The headers of a new key."""
    _, secret = await house.keys.create(name=role, scopes=ROLES[role], **more)  # type: ignore[arg-type]
    return {"x-api-key": secret}


@pytest.mark.parametrize(
    "shape", ["bearer", "x-api-key", "apikey", "basic", "token of the Replicate SDK"]
)
async def test_a_key_is_taken_in_every_usual_form(api: Api, shape: str) -> None:
    _, secret = await api.house.keys.create(name="me", scopes=ROLES["user"])
    basic = base64.b64encode(f"me:{secret}".encode()).decode()
    headers = {
        "bearer": {"Authorization": f"Bearer {secret}"},
        "x-api-key": {"X-API-Key": secret},
        "apikey": {"apikey": secret},
        "basic": {"Authorization": f"Basic {basic}"},
        "token of the Replicate SDK": {"Authorization": f"Token {secret}"},
    }[shape]
    assert (await api.http.get("/v1/jobs", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-api-key": "sfk_unknown"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Digest x"},
    ],
)
async def test_without_a_good_key_nothing_is_told(api: Api, headers: dict[str, str]) -> None:
    for method, path in (("POST", "/v1/jobs"), ("GET", "/v1/models"), ("POST", "/generate")):
        answer = await api.http.request(method, path, json=BODY, headers=headers)
        assert answer.status_code == 401
        assert "Bearer" in answer.headers["WWW-Authenticate"]
        assert answer.json()["code"] == "unauthorized"
    assert (await api.http.get("/healthz")).status_code == 200


async def test_where_no_key_is_needed_anything_passes_but_a_bad_key_of_ours() -> None:
    async with open_house() as house, ask(create_app(context_of(house))) as http:
        ours, theirs = {"Authorization": "Bearer sfk_gone"}, {"Authorization": "Bearer sk-x"}
        assert (await http.get("/v1/jobs")).status_code == 200
        assert (await http.get("/v1/jobs", headers=theirs)).status_code == 200
        assert (await http.get("/v1/jobs", headers=ours)).status_code == 401


async def test_a_revoked_and_a_rotated_key_are_refused_at_their_next_call(api: Api) -> None:
    made, secret = await api.house.keys.create(name="me", scopes=ROLES["user"])
    old = {"x-api-key": secret}
    assert (await api.http.get("/v1/jobs", headers=old)).status_code == 200
    _, secret = await api.house.keys.rotate(made.id)
    new = {"x-api-key": secret}
    assert (await api.http.get("/v1/jobs", headers=old)).status_code == 401
    assert (await api.http.get("/v1/jobs", headers=new)).status_code == 200
    await api.house.keys.revoke(made.id)
    answer = await api.http.get("/v1/jobs", headers=new)
    assert answer.status_code == 401
    assert "revoked" in answer.json()["detail"]


async def test_an_expired_key_is_refused(api: Api) -> None:
    headers = await key(api.house, expires_in=0.0)
    answer = await api.http.get("/v1/jobs", headers=headers)
    assert (answer.status_code, "expired" in answer.json()["detail"]) == (401, True)


async def test_a_caller_sees_its_own_jobs_and_no_trace_of_others(api: Api) -> None:
    mine, theirs, viewer = [await key(api.house, role) for role in ("user", "user", "viewer")]
    job = (await api.http.post("/v1/jobs", json=BODY, headers=mine)).json()["id"]
    for path, method in (
        (f"/v1/jobs/{job}", "GET"),
        (f"/v1/jobs/{job}/events", "GET"),
        (f"/v1/jobs/{job}/images/0", "GET"),
        (f"/v1/jobs/{job}/cancel", "POST"),
    ):
        answer = await api.http.request(method, path, headers=theirs)
        assert answer.status_code == 404
        assert answer.json()["detail"] == f"There is no job {job!r}."
    assert (await api.http.get("/v1/jobs", headers=theirs)).json()["jobs"] == []
    listed = [await api.http.get("/v1/jobs", headers=headers) for headers in (mine, viewer)]
    assert [[each["id"] for each in page.json()["jobs"]] for page in listed] == [[job], [job]]
    assert (await api.http.get(f"/v1/jobs/{job}", headers=viewer)).status_code == 200
    assert (await api.http.post(f"/v1/jobs/{job}/cancel", headers=mine)).status_code == 200


async def test_a_viewer_makes_no_jobs_and_a_user_sees_no_workers(api: Api) -> None:
    viewer, user = await key(api.house, "viewer"), await key(api.house, "user")
    refused = await api.http.post("/v1/jobs", json=BODY, headers=viewer)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert "generate" in refused.json()["detail"]
    assert (await api.http.get("/v1/workers", headers=user)).status_code == 403
    assert (await api.http.get("/v1/workers", headers=viewer)).status_code == 200
    assert (await api.http.get("/v1/scaling/default", headers=viewer)).status_code == 200


async def test_a_viewer_may_not_take_a_job_back(api: Api) -> None:
    mine, viewer = await key(api.house), await key(api.house, "viewer")
    job = (await api.http.post("/v1/jobs", json=BODY, headers=mine)).json()["id"]
    answer = await api.http.post(f"/v1/jobs/{job}/cancel", headers=viewer)
    assert answer.status_code == 403
    assert (await api.http.get(f"/v1/jobs/{job}", headers=mine)).json()["status"] == "queued"


@pytest.mark.parametrize("field", ["models", "runtimes"])
async def test_a_key_is_for_its_models_and_runtimes_alone(api: Api, field: str) -> None:
    headers = await key(api.house, **{field: ["another"]})
    answer = await api.http.post("/v1/jobs", json=BODY, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["accepted"] == ["another"]


async def test_an_idempotency_key_is_its_callers_own(api: Api) -> None:
    jobs = set()
    for headers in (await key(api.house), await key(api.house)):
        for _ in range(2):
            answer = await api.http.post(
                "/v1/jobs", json=BODY, headers={**headers, "Idempotency-Key": "k"}
            )
            jobs.add(answer.json()["id"])
    assert len(jobs) == 2


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (KeyLimits(rate=0.001), "overloaded"),
        (KeyLimits(concurrency=1), "quota_exceeded"),
        (KeyLimits(daily_images=2), "quota_exceeded"),
    ],
)
async def test_a_key_uses_no_more_than_it_may(api: Api, limits: KeyLimits, code: str) -> None:
    headers, other = await key(api.house, limits=limits), await key(api.house)
    body = {**BODY, "num_images": 2}
    assert (await api.http.post("/v1/jobs", json=body, headers=headers)).status_code == 202
    refused = await api.http.post("/v1/jobs", json=body, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (429, code)
    assert int(refused.headers["Retry-After"]) >= 1
    assert (await api.http.post("/v1/jobs", json=body, headers=other)).status_code == 202


async def test_gpu_seconds_of_the_day_count(api: Api) -> None:
    headers = await key(api.house, limits=KeyLimits(daily_gpu_seconds=1e-9))
    async with api.house.working():
        first = await api.http.post("/v1/jobs", json=BODY, headers={**headers, "Prefer": "wait=30"})
    assert first.json()["status"] == "succeeded"
    refused = await api.http.post("/v1/jobs", json=BODY, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")
