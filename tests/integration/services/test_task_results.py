"""Tasks that came over HTTP: their results go where the operator's other tasks leave theirs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest

from sfumato.api.dialects import aws, render
from sfumato.core.errors import Unavailable
from sfumato.core.job import Job, JobError
from sfumato.core.keys import ROLES
from sfumato.core.ports import StoredObject, Task
from sfumato.core.webhooks import Webhook, WebhookState
from sfumato.services.task_results import TaskResults
from sfumato.services.webhooks import WebhookTeller
from tests.integration.api.serving import context_of, serving
from tests.integration.services.test_webhooks import Receiver
from tests.support.aws_tasks import V0, V1ALPHA2
from tests.support.parts import House, open_house


@dataclass
class Sink:
    """Keeps what it gets; ``TaskSink``."""

    told: list[tuple[str, str, list[str]]] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    away: bool = False

    async def started(self, task: Task) -> None:
        self._tell("started", task, [])

    async def succeeded(self, task: Task, job: Job, images: Sequence[StoredObject]) -> None:
        answer = task.reply["answer"]
        assert all(image.data.startswith(b"\x89PNG") for image in images)
        self._tell("succeeded", task, [answer.image_key(n, "png") for n in range(len(images))])

    async def failed(self, task: Task, error: JobError) -> None:
        self._tell(error.code, task, [])

    async def close(self) -> None:
        """Nothing is open."""

    def _tell(self, what: str, task: Task, keys: list[str]) -> None:
        self.heard.set()
        if self.away:
            raise Unavailable("The bucket is away.")
        self.told.append((what, task.reply["answer"].document_key.partition("/")[0], keys))

    async def until(self, number: int) -> None:
        while len(self.told) < number:
            self.heard.clear()
            await self.heard.wait()


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with open_house() as opened:
        yield opened


def teller(house: House, sink: Sink) -> WebhookTeller:
    return WebhookTeller(
        hooks=house.hooks,
        store=house.store,
        web=house.web,
        watcher=house.watcher,
        clock=house.clock,
        render=render,
        deliver={aws.STYLE: TaskResults(images=house.images, sink=sink, tell_started=True)},
    )


@contextlib.asynccontextmanager
async def standing(house: House, sink: Sink, **more: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service whose tasks' results go to a bucket."""
    context = replace(context_of(house, **more), task_results_url="s3://pictures")
    telling = asyncio.create_task(teller(house, sink).run())
    try:
        async with serving(context) as url, httpx.AsyncClient(base_url=url) as http:
            yield http
    finally:
        telling.cancel()
        await asyncio.wait((telling,))


async def test_what_becomes_of_a_task_is_told_to_the_sink(house: House) -> None:
    sink = Sink()
    async with standing(house, sink) as http:
        canceled = await http.post("/", json=V0)
        await house.tracking.cancel(canceled.headers["X-Sfumato-Job"])
        await sink.until(1)
        async with house.working():
            done = await http.post("/v1alpha2", json=V1ALPHA2)
            await sink.until(3)
        report = (await http.get("/task-results/out/deep/a2")).json()
    assert canceled.json()["output_location"] == "s3://pictures/307"
    assert done.json()["output_location"] == "s3://pictures/out/deep/a2"
    assert [(what, folder) for what, folder, _ in sink.told] == [
        ("canceled", "307"),
        ("started", "out"),
        ("succeeded", "out"),
    ]
    # The names are the same over HTTP.
    assert [url.partition("/task-results/")[2] for url in report["image_url"]] == sink.told[2][2]


async def test_a_place_that_is_away_is_tried_again_and_said(house: House) -> None:
    context = replace(context_of(house), task_results_url="s3://pictures")
    async with serving(context) as url, httpx.AsyncClient(base_url=url) as http:
        job_id = (await http.post("/", json=V0)).headers["X-Sfumato-Job"]
    await house.tracking.cancel(job_id)
    sink = Sink(away=True)
    await teller(house, sink)._tell_due()
    telling, tries = await house.tracking.webhook(job_id)
    assert telling.state is WebhookState.OPEN
    assert telling.next_at > house.clock.now()
    assert [each.error for each in tries] == ["The bucket is away."]
    sink.away = False
    await house.hooks.save(replace(telling, next_at=0.0))
    await teller(house, sink)._tell_due()
    assert (await house.tracking.webhook(job_id))[0].state is WebhookState.DONE
    assert [what for what, *_ in sink.told] == ["canceled"]


async def test_the_key_s_webhook_is_told_beside(house: House) -> None:
    receiver, sink = Receiver(), Sink()
    async with receiver.serving() as hook:
        _, secret = await house.keys.create(name="me", scopes=ROLES["user"], webhook=Webhook(hook))
        async with standing(house, sink, key_required=True) as http, house.working():
            await http.post("/v1alpha2", json=V1ALPHA2, headers={"x-api-key": secret})
            running, ended = await receiver.until(2)
    assert (running["status"], ended["status"]) == ("running", "completed")
    assert [what for what, *_ in sink.told] == ["started", "succeeded"]
