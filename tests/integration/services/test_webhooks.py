"""Webhooks: a real server is told, in order, signed, and again until it has heard."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from standardwebhooks.webhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from sfumato.api.app import create_app
from sfumato.api.webhooks import render_native
from sfumato.core.keys import ROLES, Caller
from sfumato.core.request import GenerationRequest
from sfumato.core.webhooks import Webhook, WebhookState
from sfumato.services.webhooks import WebhookTeller
from tests.integration.api.serving import ask, context_of
from tests.support.parts import House, open_house


@dataclass
class Receiver:
    """A caller's server: keeps what it is told, and answers as it is set to."""

    answers: list[int] = field(default_factory=list)
    told: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = (line.partition(": ") for line in head[1:] if line)
        headers = {name.lower(): value for name, _, value in pairs}
        body = await reader.readexactly(int(headers["content-length"]))
        self.told.append((headers, body))
        status = self.answers.pop(0) if self.answers else 204
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)
        await writer.drain()
        writer.close()
        self.heard.set()

    async def until(self, number: int) -> list[dict[str, Any]]:
        """The bodies, once so many have come."""
        while len(self.told) < number:
            self.heard.clear()
            await self.heard.wait()
        return [json.loads(body) for _, body in self.told]


@contextlib.asynccontextmanager
async def telling(house: House) -> AsyncIterator[None]:
    teller = WebhookTeller(
        hooks=house.hooks,
        store=house.store,
        web=house.web,
        watcher=house.watcher,
        clock=house.clock,
        render=render_native,
    )
    task = asyncio.create_task(teller.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with open_house() as house:
        yield house


async def settled(house: House, job_id: str) -> WebhookState:
    """The state, once it is no longer open. The store tells nobody, so it is asked again."""
    while (await house.hooks.get(job_id)).state is WebhookState.OPEN:
        await asyncio.sleep(0.01)
    return (await house.hooks.get(job_id)).state


async def test_a_job_is_told_from_its_start_to_its_end(house: House) -> None:
    receiver = Receiver()
    async with receiver.serving() as url, telling(house), house.working():
        job = await house.submit(num_images=2, webhook=Webhook(url))
        bodies = await receiver.until(4)
        assert await settled(house, job.id) is WebhookState.DONE
    kinds = [body["type"] for body in bodies]
    assert kinds == ["job.started", "job.image", "job.image", "job.succeeded"]
    urls = {body["data"]["url"] for body in bodies[1:3]}
    assert urls == {f"/v1/jobs/{job.id}/images/{index}" for index in range(2)}
    assert bodies[3]["data"]["job"]["status"] == "succeeded"
    ids = [headers["webhook-id"] for headers, _ in receiver.told]
    assert len(set(ids)) == 4
    assert all(name.startswith(f"msg_{job.id}_") for name in ids)


async def test_every_body_is_signed_with_the_callers_own_secret(house: House) -> None:
    receiver = Receiver()
    key, _ = await house.keys.create(name="me", scopes=ROLES["user"])
    submission = house.submission.for_caller(Caller(key))
    tracking = house.tracking.for_caller(Caller(key))
    async with receiver.serving() as url, telling(house), house.working():
        job = await submission.submit(GenerationRequest("a castle"), webhook=Webhook(url))
        await settled(house, job.id)
    mine = Verifier(await tracking.webhook_secret())
    others = Verifier(await house.tracking.webhook_secret())
    assert len(receiver.told) == 3
    for headers, body in receiver.told:
        mine.verify(body, headers)
        with pytest.raises(WebhookVerificationError):
            others.verify(body, headers)
        with pytest.raises(WebhookVerificationError):
            mine.verify(body + b" ", headers)


async def test_a_keys_own_webhook_is_for_its_jobs_that_name_none(house: House) -> None:
    receiver = Receiver()
    async with receiver.serving() as url, telling(house), house.working():
        hook = Webhook.named(url, ["succeeded"])
        key, _ = await house.keys.create(name="me", scopes=ROLES["user"], webhook=hook)
        submission = house.submission.for_caller(Caller(key))
        job = await submission.submit(GenerationRequest("a castle"))
        assert await settled(house, job.id) is WebhookState.DONE
    assert len(receiver.told) == 1


async def test_who_answers_with_an_error_is_told_again_under_the_same_id(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfumato.services.webhooks._DELAYS", (0.01,))
    receiver = Receiver(answers=[500, 429, 302])
    async with receiver.serving() as url, telling(house), house.working():
        job = await house.submit(webhook=Webhook.named(url, ["succeeded"]))
        await receiver.until(4)
        assert await settled(house, job.id) is WebhookState.DONE
    assert len({headers["webhook-id"] for headers, _ in receiver.told}) == 1
    _, tried = await house.tracking.webhook(job.id)
    assert [delivery.status for delivery in tried] == [204, 302, 429, 500]


async def test_nobody_there_is_tried_again_and_says_why(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfumato.services.webhooks._DELAYS", (0.01,))
    receiver = Receiver()
    async with receiver.serving() as url:
        pass
    async with telling(house), house.working():
        job = await house.submit(webhook=Webhook(url))
        while not (tried := (await house.tracking.webhook(job.id))[1]):
            await asyncio.sleep(0.01)
    assert tried[-1].status is None
    assert "can't be reached" in str(tried[-1].error)
    assert url not in str(tried[-1].error)


async def test_a_server_that_wants_no_more_and_one_that_fails_for_a_day_are_given_up(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = Receiver(answers=[410, 500])
    async with receiver.serving() as url, telling(house), house.working():
        job = await house.submit(webhook=Webhook(url))
        assert await settled(house, job.id) is WebhookState.GIVEN_UP
        monkeypatch.setattr("sfumato.services.webhooks._PATIENCE", 0.0)
        job = await house.submit(webhook=Webhook(url))
        assert await settled(house, job.id) is WebhookState.GIVEN_UP
        assert len(receiver.told) == 2


async def test_a_teller_that_comes_later_tells_what_it_missed(house: House) -> None:
    receiver = Receiver()
    async with receiver.serving() as url:
        async with house.working():
            job = await house.submit(webhook=Webhook(url))
            await house.tracking.wait(job.id, timeout=30)
        assert receiver.told == []
        async with telling(house):
            bodies = await receiver.until(3)
    assert bodies[-1]["type"] == "job.succeeded"


async def test_progress_is_told_when_asked_for_and_never_often(house: House) -> None:
    receiver = Receiver()
    async with receiver.serving() as url, telling(house), house.working():
        job = await house.submit(
            num_inference_steps=150, webhook=Webhook.named(url, ["progress", "succeeded"])
        )
        await settled(house, job.id)
    bodies = [json.loads(body) for _, body in receiver.told]
    steps = [body["data"]["step"] for body in bodies if body["type"] == "job.progress"]
    assert steps == sorted(steps)
    assert len(steps) < 20
    assert bodies[-1]["type"] == "job.succeeded"


async def test_an_idempotent_repetition_is_not_told_twice(house: House) -> None:
    receiver = Receiver()
    async with receiver.serving() as url:
        first = await house.submit(webhook=Webhook(url), idempotency_key="k", seed=1)
        again = await house.submit(webhook=Webhook(url), idempotency_key="k", seed=1)
        assert first.id == again.id
        async with telling(house), house.working():
            await settled(house, first.id)
    assert len(receiver.told) == 3


async def test_over_http_a_webhook_is_asked_for_looked_at_and_replayed(house: House) -> None:
    receiver = Receiver()
    async with (
        receiver.serving() as url,
        ask(create_app(context_of(house))) as http,
        telling(house),
        house.working(),
    ):
        body = {"prompt": "a castle", "webhook": {"url": url, "events": ["succeeded"]}}
        answer = await http.post("/v1/jobs", json=body)
        assert answer.status_code == 202, answer.text
        job = answer.json()["id"]
        await settled(house, job)
        seen = (await http.get(f"/v1/jobs/{job}/webhook")).json()
        assert (seen["state"], seen["events"]) == ("done", ["succeeded"])
        assert [each["status"] for each in seen["deliveries"]] == [204]
        assert url not in json.dumps(seen)
        assert (await http.post(f"/v1/jobs/{job}/webhook/replay")).status_code == 200
        await receiver.until(2)
        secret = (await http.get("/v1/webhooks/secret")).json()["secret"]
        for headers, told in receiver.told:
            Verifier(secret).verify(told, headers)
        await _refusals(http)


async def _refusals(http: httpx.AsyncClient) -> None:
    for hook, at_fault in (
        ({"url": "https://10.0.0.1/x"}, "webhook.url"),
        ({"url": "nonsense"}, "webhook.url"),
        ({"url": "https://example.com", "events": ["lunch"]}, "webhook.events"),
        ({"events": []}, "webhook.url"),
    ):
        answer = await http.post("/v1/jobs", json={"prompt": "a castle", "webhook": hook})
        assert answer.status_code == 422, hook
        assert answer.json()["field"].startswith(at_fault), answer.text
    job = (await http.post("/v1/jobs", json={"prompt": "a castle"})).json()["id"]
    assert (await http.get(f"/v1/jobs/{job}/webhook")).status_code == 404
