"""Replicate's own Python client against a Sfumato on a socket."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import httpx
import pytest
import replicate
from replicate.exceptions import ModelError, ReplicateError
from replicate.helpers import FileOutput
from replicate.webhook import Webhooks

from sfumato.api.dialects import render
from sfumato.core.errors import EngineFailure
from sfumato.core.keys import ROLES
from sfumato.core.ports import Slot
from sfumato.engine.fake import FakeEngine
from sfumato.services.webhooks import WebhookTeller
from tests.integration.api.serving import context_of, serving
from tests.integration.services.test_webhooks import Receiver
from tests.support.parts import House, open_house

MODEL = "sfumato/pattern"
INPUT = {"prompt": "a castle at night", "seed": 7}


@dataclass
class Service:
    """A service that asks for keys, and its callers."""

    house: House
    url: str
    clients: list[replicate.Client] = field(default_factory=list)

    @property
    def client(self) -> replicate.Client:
        return self.clients[0]

    def calling(self, key: str) -> replicate.Client:
        """A caller with that key."""
        client = replicate.Client(api_token=key, base_url=self.url)
        client.poll_interval = 0.01
        self.clients.append(client)
        return client

    async def another(self) -> replicate.Client:
        """A caller with a key of its own."""
        _, secret = await self.house.keys.create(name="caller", scopes=ROLES["user"])
        return self.calling(secret)

    async def stored(self, prediction_id: str, index: int = 0) -> bytes:
        return (await self.house.tracking.image(prediction_id, index)).data


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with open_house() as house, serving(context_of(house, key_required=True)) as url:
        service = Service(house, url)
        await service.another()
        yield service
        for client in service.clients:
            await client._async_client.aclose()


async def test_run_answers_files(service: Service) -> None:
    async with service.house.working():
        output = await service.client.async_run(MODEL, input={**INPUT, "num_outputs": 2})
        versioned = await service.client.async_run(f"{MODEL}:pattern", input=INPUT)
        polled = await service.client.async_run(MODEL, input=INPUT, wait=False)
    page = await service.client.predictions.async_list()
    newest, middle, oldest = (each.id for each in page)
    assert [await file.aread() for file in output] == [
        await service.stored(oldest),
        await service.stored(oldest, 1),
    ]
    assert await versioned[0].aread() == await service.stored(middle)
    assert await polled[0].aread() == await service.stored(newest)
    assert isinstance(output[0], FileOutput)


async def test_run_goes_on_asking_where_the_wait_was_too_short(service: Service) -> None:
    stepping = asyncio.Event()
    go_on = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold(_slots: Sequence[Slot]) -> None:
        loop.call_soon_threadsafe(stepping.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(timeout=60)

    async with service.house.working(FakeEngine(before_step=hold)):
        first = await service.client.predictions.async_create(model=MODEL, input=INPUT)
        await stepping.wait()
        assert (await service.client.predictions.async_get(first.id)).status == "processing"
        # Its wait of a second ends while the first is held.
        running = asyncio.create_task(service.client.async_run(MODEL, input=INPUT, wait=1))
        held = await service.client.predictions.async_create(version="pattern", input=INPUT, wait=1)
        assert held.status == "starting"
        go_on.set()
        output = await running
    assert len(await output[0].aread()) > 100


async def test_create_get_wait_and_list(service: Service) -> None:
    made = await service.client.predictions.async_create(version="pattern", input=INPUT)
    assert (made.status, made.output) == ("starting", None)
    assert (made.model, made.version) == (MODEL, "pattern")
    assert made.input == INPUT
    async with service.house.working():
        await made.async_wait()
    assert made.status == "succeeded"
    assert made.progress is not None
    assert (made.progress.percentage, made.progress.total) == (1.0, 4)
    assert made.metrics is not None
    assert made.metrics["predict_time"] <= made.metrics["total_time"]
    got = await service.client.predictions.async_get(made.id)
    assert got.dict() == made.dict()
    [listed] = await service.client.predictions.async_list()
    assert listed.id == made.id
    # A page of predictions does not carry their pictures.
    assert listed.output == [f"{service.url}/v1/jobs/{made.id}/images/0"]


async def test_the_list_goes_on_by_its_cursor(service: Service) -> None:
    client = service.client
    ids = []
    for number in range(101):
        made = await client.predictions.async_create(
            version="pattern", input={**INPUT, "seed": number}
        )
        ids.append(made.id)
    first = await client.predictions.async_list()
    assert first.next is not None
    second = await client.predictions.async_list(first.next)
    assert [each.id for each in (*first, *second)] == ids[::-1]
    assert second.next is None


async def test_cancel(service: Service) -> None:
    made = await service.client.predictions.async_create(model=MODEL, input=INPUT)
    await made.async_cancel()
    assert made.status == "canceled"
    async with service.house.working():
        done = await service.client.predictions.async_create(
            version="pattern", input=INPUT, wait=True
        )
    await done.async_cancel()
    assert done.status == "succeeded"


async def test_a_failure_is_the_client_s_model_error(service: Service) -> None:
    def fail(_slots: Sequence[Slot]) -> None:
        raise EngineFailure("The brush broke.")

    async with service.house.working(FakeEngine(before_step=fail)):
        with pytest.raises(ModelError, match=r"The brush broke\."):
            await service.client.async_run(MODEL, input=INPUT)


async def test_what_is_refused_is_the_client_s_error(service: Service) -> None:
    with pytest.raises(ReplicateError) as unknown:
        await service.client.async_run("sfumato/nothing", input=INPUT)
    assert unknown.value.status == 422
    assert unknown.value.detail is not None
    assert "nothing" in unknown.value.detail
    with pytest.raises(ReplicateError, match="num_outputs"):
        await service.client.async_run(MODEL, input={**INPUT, "num_outputs": 0})
    stranger = service.calling("nobody's")
    with pytest.raises(ReplicateError, match="status: 401"):
        await stranger.predictions.async_list()
    headers = {"Authorization": f"Bearer {service.client._api_token}", "Cancel-After": "1m"}
    async with httpx.AsyncClient(base_url=service.url, headers=headers) as http:
        answer = await http.post("/v1/predictions", json={"input": INPUT})
    assert (answer.status_code, answer.json()["field"]) == (422, "Cancel-After")


async def test_another_s_prediction_is_not_there(service: Service) -> None:
    made = await service.client.predictions.async_create(model=MODEL, input=INPUT)
    other = await service.another()
    for call in (other.predictions.async_get, other.predictions.async_cancel):
        with pytest.raises(ReplicateError, match="status: 404"):
            await call(made.id)
    assert len(await other.predictions.async_list()) == 0


async def test_stream_tells_the_steps_and_the_pictures(service: Service) -> None:
    async with service.house.working():
        told = [each async for each in await service.client.async_stream(MODEL, input=INPUT)]
        kinds = [each.event.value for each in told]
        assert [*kinds[:2], *kinds[-2:]] == ["logs", "logs", "output", "done"]
        [listed] = await service.client.predictions.async_list()
        assert isinstance(told[-2].data, FileOutput)
        assert await told[-2].data.aread() == await service.stored(listed.id)
        assert told[-1].data == "{}"
        # A client that connects again goes on where it was, and ends where it had the end.
        stream = f"{service.url}/v1/predictions/{listed.id}/stream"
        headers = {"Authorization": f"Bearer {service.client._api_token}"}
        async with httpx.AsyncClient(headers=headers) as http:
            rest = await http.get(stream, headers={"Last-Event-ID": told[-2].id})
            assert rest.text.count("event: output") == rest.text.count("event: done") == 1
            assert "event: logs" not in rest.text
            over = await http.get(stream, headers={"Last-Event-ID": told[-1].id})
            assert over.status_code == 204


async def test_a_stream_ends_with_the_failure_or_the_cancellation(service: Service) -> None:
    made = await service.client.predictions.async_create(model=MODEL, input=INPUT)
    await made.async_cancel()
    told = [each async for each in made.async_stream()]
    assert [each.data for each in told] == ['{"reason":"canceled"}']

    def fail(_slots: Sequence[Slot]) -> None:
        raise EngineFailure("The brush broke.")

    async with service.house.working(FakeEngine(before_step=fail)):
        made = await service.client.predictions.async_create(model=MODEL, input=INPUT)
        with pytest.raises(RuntimeError, match=r"The brush broke\."):
            [each async for each in made.async_stream()]


@pytest.mark.parametrize("strategy", ["base64", "url"])
async def test_a_file_is_an_input(service: Service, strategy: str) -> None:
    async with service.house.working():
        first = await service.client.async_run(MODEL, input=INPUT)
        data = await first[0].aread()
        given = {**INPUT, "image": io.BytesIO(data)}
        made = await service.client.predictions.async_create(
            version="pattern", input=given, file_encoding_strategy=strategy, wait=True
        )
    assert made.status == "succeeded"
    job = await service.house.tracking.get(made.id)
    assert job.request.init_image is not None
    assert job.request.init_image.size_bytes == len(data)


async def test_only_pictures_are_taken_as_files(service: Service) -> None:
    with pytest.raises(ReplicateError, match="no picture"):
        await service.client.files.async_create(io.BytesIO(b"words"))


async def test_models_and_their_versions(service: Service) -> None:
    model = await service.client.models.async_get(MODEL)
    assert (model.owner, model.name) == ("sfumato", "pattern")
    assert model.latest_version is not None
    assert model.latest_version.id == "pattern"
    schemas = model.latest_version.openapi_schema["components"]["schemas"]
    assert "prompt" in schemas["Input"]["properties"]
    [version] = await model.versions.async_list()
    assert version.id == (await model.versions.async_get("pattern")).id
    with pytest.raises(ReplicateError, match="status: 404"):
        await model.versions.async_get("other")
    with pytest.raises(ReplicateError, match="status: 404"):
        await service.client.models.async_get("sfumato/nothing")
    # The native API's own answers are where they were.
    headers = {"Authorization": f"Bearer {service.client._api_token}"}
    async with httpx.AsyncClient(base_url=service.url, headers=headers) as http:
        assert (await http.get("/v1/models/pattern")).json()["family"] == "fake"
        assert (await http.get("/v1/models/a/b")).json()["code"] == "not_found"


@contextlib.asynccontextmanager
async def telling(house: House) -> AsyncIterator[None]:
    teller = WebhookTeller(
        hooks=house.hooks,
        store=house.store,
        web=house.web,
        watcher=house.watcher,
        clock=house.clock,
        render=render,
    )
    task = asyncio.create_task(teller.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def test_a_webhook_is_told_what_it_asks_for_and_signed(service: Service) -> None:
    receiver = Receiver()
    async with receiver.serving() as url, telling(service.house), service.house.working():
        made = await service.client.predictions.async_create(
            model=MODEL, input=INPUT, webhook=url, webhook_events_filter=["start", "completed"]
        )
        bodies = await receiver.until(2)
    assert [body["status"] for body in bodies] == ["processing", "succeeded"]
    assert [body["id"] for body in bodies] == [made.id, made.id]
    assert bodies[0]["output"] is None
    assert bodies[1]["output"] == [f"{service.url}/v1/jobs/{made.id}/images/0"]
    assert bodies[1]["urls"] == made.urls
    secret = await service.client.webhooks.default.async_secret()
    for headers, body in receiver.told:
        Webhooks.validate(headers=headers, body=body.decode(), secret=secret)


async def test_a_webhook_hears_the_steps_as_logs(service: Service) -> None:
    receiver = Receiver()
    async with receiver.serving() as url, telling(service.house), service.house.working():
        await service.client.predictions.async_create(
            model=MODEL, input=INPUT, webhook=url, webhook_events_filter=["logs", "completed"]
        )
        bodies = await receiver.until(2)
    assert {body["status"] for body in bodies[:-1]} == {"processing"}
    assert all("%|" in body["logs"] for body in bodies[:-1])
    assert bodies[-1]["status"] == "succeeded"
