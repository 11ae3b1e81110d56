"""Both clients against a service that asks for keys, over TCP: every route of the native API has a
method, and every method is called here."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi.routing import APIRoute

from sfumato import AsyncClient, Client
from sfumato.api import costs, native, webhooks, workers
from sfumato.client import (
    Forbidden,
    InvalidRequest,
    NotFound,
    Unauthorized,
    UnexpectedAnswer,
    calls,
)
from sfumato.client.results import ImageInfo
from sfumato.core.keys import ROLES
from sfumato.core.ports import WorkerKind, WorkerReport
from tests.integration.api.serving import context_of, serving
from tests.integration.client.scripted import JOB_ID, Caller, Service, job_json
from tests.support.parts import House, open_house
from tests.support.png import png

INFO = ImageInfo.model_validate(job_json()["images"][0])
#: One request of each kind that the clients make, by the method that makes it.
REQUESTS = {
    "submit": calls.submit("a castle", {}),
    "jobs": calls.job_page(None, None),
    "get": calls.get(JOB_ID),
    "cancel": calls.cancel(JOB_ID),
    "image": calls.image(INFO),
    "input_image": calls.input_image(JOB_ID, "0" * 64),
    "webhook": calls.webhook(JOB_ID),
    "replay_webhook": calls.replay_webhook(JOB_ID),
    "webhook_secret": calls.webhook_secret(),
    "models": calls.models(),
    "catalogue": calls.catalogue(),
    "model": calls.model("org/name"),
    "runtimes": calls.runtimes(),
    "workers": calls.workers(),
    "scaling": calls.scaling("default"),
    "costs": calls.costs(by=["model"], since="2026-11-01"),
}
#: Made of the others, or of the stream of events.
COMPOSED = {"close", "fetch", "generate", "stream", "wait"}
ROUTES = [
    (method, route)
    for router in (native.router, webhooks.router, workers.router, costs.router)
    for route in router.routes
    if isinstance(route, APIRoute) and route.include_in_schema
    for method in route.methods
]


def public(client: type) -> dict[str, Any]:
    return {name: value for name, value in vars(client).items() if not name.startswith("_")}


@pytest.mark.parametrize(
    ("method", "route"), ROUTES, ids=lambda value: getattr(value, "name", value)
)
def test_every_route_has_a_method(method: str, route: APIRoute) -> None:
    asked = [(call.method, call.path) for call in REQUESTS.values()]
    asked.append(("GET", calls.events_path(JOB_ID)))
    assert any(method == verb and route.path_regex.match(path) for verb, path in asked), (
        f"{method} {route.path}: no method of the clients asks for it"
    )


def test_both_clients_have_the_same_methods_and_each_is_checked_here() -> None:
    assert public(Client).keys() == public(AsyncClient).keys() == REQUESTS.keys() | COMPOSED
    for name, method in public(Client).items():
        other = public(AsyncClient)[name]
        assert method.__doc__ or name == "close"
        assert list(inspect.signature(method).parameters) == [
            *inspect.signature(other).parameters
        ], name


# -- over TCP ----------------------------------------------------------------------------------------


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with open_house() as opened:
        yield opened


@pytest.fixture(params=["blocking", "nonblocking"])
async def admin(request: pytest.FixtureRequest, house: House) -> AsyncIterator[Caller]:
    """A client with a key that may do everything, at a service that lets in nobody without."""
    async with serving(context_of(house, key_required=True)) as url:
        _, key = await house.keys.create(name="me", scopes=ROLES["admin"])
        if request.param == "blocking":
            with Client(url, key=key) as client:
                yield Caller(client)
        else:
            async with AsyncClient(url, key=key) as aclient:
                yield Caller(aclient)


async def test_a_jobs_whole_life(house: House, admin: Caller) -> None:
    picture = png(64, 48)
    hook = {"url": "http://127.0.0.1:9/hook", "events": ["succeeded"]}
    job = await admin.call("submit", "a castle", init_image=picture, webhook=hook, strength=0.5)
    assert (await admin.call("get", job.id)).status == "queued"
    brought = job.request["init_image"]["sha256"]
    assert await admin.call("input_image", job.id, brought) == picture
    async with house.working():
        assert (await admin.call("wait", job.id, timeout=30)).status == "succeeded"
    generation = await admin.call("fetch", await admin.call("get", job.id))
    assert generation.images[0].data.startswith(b"\x89PNG")
    assert (await admin.collect("stream", job.id))[-1].kind == "succeeded"
    report = await admin.call("webhook", job.id)
    assert (report.state, report.events, report.deliveries) == ("open", ("succeeded",), ())
    assert (await admin.call("replay_webhook", job.id, after=1)).told_to == 0
    assert (await admin.call("webhook_secret")).startswith("whsec_")
    taken_back = await admin.call("submit", "a castle")
    assert (await admin.call("cancel", taken_back.id)).cancel_requested
    assert [job.id for job in await admin.collect("jobs")] == [taken_back.id, job.id]


async def test_what_the_service_offers(house: House, admin: Caller) -> None:
    now = house.clock.now()
    await house.workers.seen(
        WorkerReport("w1", "default", WorkerKind.LOCAL, "cpu", ("pattern",), now, now)
    )
    (model,) = await admin.call("models", kind="all")
    assert (model.name, model.loaded_on, model.vocabulary) == ("pattern", ("w1",), None)
    assert (await admin.call("model", "pattern")).vocabulary == ("a", "at", "castle", "night")
    with pytest.raises(NotFound, match="pattrn"):
        await admin.call("model", "pattrn")
    assert "euler_a" in (await admin.call("catalogue")).samplers
    (runtime,) = await admin.call("runtimes")
    assert runtime.name == "default"
    (worker,) = await admin.call("workers")
    assert (worker.name, worker.device) == ("w1", "cpu")
    assert worker.seen_at.timestamp() == pytest.approx(now, abs=0.001)
    assert (await admin.call("scaling", "default")).desired == 0
    assert await admin.call("costs") == ()


@pytest.mark.parametrize("client", [Client, AsyncClient])
async def test_a_key_that_is_not_good_enough(
    house: House, client: type[Client | AsyncClient]
) -> None:
    _, key = await house.keys.create(name="me", scopes=ROLES["user"])
    async with serving(context_of(house, key_required=True)) as url:
        for shown, kind in ((None, Unauthorized), ("sfk_wrong", Unauthorized), (key, Forbidden)):
            made = client(url, key=shown)
            with pytest.raises(kind) as caught:
                await Caller(made).call("workers")
            assert key not in str(caught.value)
            await Caller(made).call("close")


@pytest.mark.parametrize("key", ["", "sfk_a\n", "sfk a", "schlüssel"])
def test_a_key_that_could_never_be_one_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(InvalidRequest, match="characters that no key has") as caught:
        Client(key=key)
    assert not key or key not in f"{caught.value} {caught.value.accepted}"


async def test_the_key_is_shown_to_the_service_alone(service: Service) -> None:
    elsewhere = INFO.model_copy(update={"url": "http://198.51.100.1/v1/jobs/x/images/0"})
    with Client(service.url, key="sfk_secret") as client:
        assert await Caller(client).call("image", elsewhere)
        service.script = [
            lambda exchange: exchange.answer(307, b"", Location="http://198.51.100.1")
        ]
        with pytest.raises(UnexpectedAnswer, match="307"):
            await Caller(client).call("get", JOB_ID)
        assert "sfk_secret" not in repr(client) + repr(vars(client)["_http"].headers)
    assert {request.headers["Authorization"] for request in service.requests} == {
        "Bearer sfk_secret"
    }
    assert all("sfk_secret" not in request.path for request in service.requests)
