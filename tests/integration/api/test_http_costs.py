"""What jobs cost, over HTTP: in the job, in its last event, and in totals for whom they concern."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from sfumato.api.app import create_app
from sfumato.client import AsyncClient
from sfumato.core.charges import Price
from tests.integration.api.serving import Api, ask, context_of, serving
from tests.integration.api.test_http_keys import key
from tests.support.parts import House, open_house

BODY = {"prompt": "a castle at night", "num_images": 2}
WAIT = {"Prefer": "wait=30"}


@pytest.fixture
async def priced() -> AsyncIterator[House]:
    async with open_house(prices={"default": Price(36.0, "CHF")}) as house, house.working():
        yield house


@pytest.fixture
async def api(priced: House) -> AsyncIterator[Api]:
    """A service that asks for keys, whose GPUs have a price."""
    app = create_app(context_of(priced, key_required=True))
    async with ask(app) as http:
        yield Api(priced, app, http)


async def draw(api: Api, headers: dict[str, str]) -> dict[str, float]:
    done = (await api.http.post("/v1/jobs", json=BODY, headers=headers | WAIT)).json()
    assert done["status"] == "succeeded"
    charge: dict[str, float] = done["charge"]
    return charge


async def test_a_job_tells_what_it_took_and_its_last_event_too(api: Api) -> None:
    headers = await key(api.house)
    charge = await draw(api, headers)
    assert charge["gpu_seconds"] > 0
    assert charge["cost"] == pytest.approx(charge["gpu_seconds"] / 100)
    assert charge["currency"] == "CHF"
    (job,) = (await api.http.get("/v1/jobs", headers=headers)).json()["jobs"]
    assert job["charge"] == charge
    (last,) = [e for e in await api.house.store.events(job["id"]) if e.kind.terminal]
    assert last.data == {"images": 2, **charge}


async def test_a_key_sees_its_own_costs_and_an_admin_everybody_s(api: Api) -> None:
    mine, theirs = await key(api.house), await key(api.house, "operator")
    charges = [await draw(api, headers) for headers in (mine, mine, theirs)]
    own = (await api.http.get("/v1/costs?group=key", headers=mine)).json()["costs"]
    assert [(row["key_name"], row["jobs"], row["images"]) for row in own] == [("user", 2, 4)]
    assert own[0]["cost"] == pytest.approx(charges[0]["cost"] + charges[1]["cost"])
    admin = await key(api.house, "admin")
    every = (await api.http.get("/v1/costs", headers=admin, params={"group": "key"})).json()
    assert sorted(row["key_name"] for row in every["costs"]) == ["operator", "user"]
    (whole,) = (await api.http.get("/v1/costs", headers=admin)).json()["costs"]
    assert whole["gpu_seconds"] == pytest.approx(sum(c["gpu_seconds"] for c in charges))
    assert (whole["key"], whole["key_name"], whole["model"]) == (None, None, None)


async def test_totals_are_told_apart_by_model_runtime_and_day(api: Api) -> None:
    headers = await key(api.house)
    await draw(api, headers)
    path = "/v1/costs?group=model&group=runtime&group=day&group=model"
    (row,) = (await api.http.get(path, headers=headers)).json()["costs"]
    today = datetime.now(UTC).date().isoformat()
    assert (row["model"], row["runtime"], row["day"]) == ("pattern", "default", today)
    past = "/v1/costs?since=2020-01-01&until=2021-01-01T00:00:00Z"
    told = (await api.http.get(past, headers=headers)).json()
    assert told["costs"] == []
    assert told["since"].startswith("2020-01-01T00:00:00")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("since=2021-01-01&until=2020-01-01", "until"),
        ("group=prompt", "group"),
        ("since=x", "since"),
    ],
)
async def test_what_makes_no_sense_is_refused(api: Api, query: str, field: str) -> None:
    answer = await api.http.get(f"/v1/costs?{query}", headers=await key(api.house))
    assert answer.status_code == 422
    assert answer.json()["field"].startswith(field)


async def test_who_may_see_no_jobs_sees_no_costs(api: Api) -> None:
    _, secret = await api.house.keys.create(name="writer", scopes=["generate"])  # type: ignore[list-item]
    assert (await api.http.get("/v1/costs", headers={"x-api-key": secret})).status_code == 403
    assert (await api.http.get("/v1/costs")).status_code == 401


async def test_the_client_reads_them(priced: House) -> None:
    async with serving(context_of(priced)) as url, AsyncClient(url) as client:
        job = (await client.generate("a castle at night")).job
        (total,) = await client.costs(by=["model", "day"], since="2020-01-01")
    assert (total.model, total.jobs, total.images) == ("pattern", 1, 1)
    assert total.gpu_seconds == job.charge.gpu_seconds
    assert (total.cost, total.currency) == (job.charge.cost, "CHF")
