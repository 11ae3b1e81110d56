"""Over a real uvicorn and real sockets: streams, callers that leave, a server that stops."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass

import httpx
import pytest

from sfumato.api.context import ApiContext
from sfumato.api.inputs import MAX_JOB_BYTES
from sfumato.core.job import Job, JobStatus
from sfumato.core.ports import Slot
from sfumato.engine.fake import FakeEngine
from sfumato.services.watching import JobWatcher
from tests.integration.api.serving import context_of, serving
from tests.support.parts import House, open_house


@dataclass
class Site:
    house: House
    context: ApiContext
    url: str
    http: httpx.AsyncClient
    waiters: Waiters

    async def jobs(self, count: int) -> Sequence[Job]:
        """The jobs, once there are ``count``."""
        with self.house.watcher.subscribe_all() as changed:
            while len(jobs := (await self.house.tracking.list()).jobs) < count:
                await changed.wait()
                changed.clear()
        return jobs


class Waiters:
    """Counts who waits for a job."""

    def __init__(self, watcher: JobWatcher) -> None:
        self.count = 0
        self._moved = asyncio.Event()
        self._subscribe = watcher.subscribe

    @contextlib.contextmanager
    def subscribe(self, job_id: str, **options: bool) -> Iterator[asyncio.Event]:
        with self._subscribe(job_id, **options) as changed:
            self._move(1)
            try:
                yield changed
            finally:
                self._move(-1)

    async def reach(self, count: int) -> None:
        """Returns once so many wait."""
        await self._until(lambda: self.count >= count)

    async def end(self) -> None:
        """Returns once nobody waits: a leak would run into the timeout."""
        await self._until(lambda: self.count == 0)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._moved.clear()
            await self._moved.wait()

    def _move(self, by: int) -> None:
        self.count += by
        self._moved.set()


@pytest.fixture
async def site(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    async with open_house() as house:
        waiters = Waiters(house.watcher)
        monkeypatch.setattr(house.watcher, "subscribe", waiters.subscribe)
        context = context_of(house)
        async with serving(context) as url, httpx.AsyncClient(base_url=url, timeout=30) as http:
            yield Site(house, context, url, http, waiters)


class Gate:
    """Holds the engine before a step until the test lets it go on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, _slots: Sequence[Slot]) -> None:
        self.reached.set()
        assert self.go_on.wait(30)


async def test_events_arrive_while_the_job_runs(site: Site) -> None:
    gate = Gate()
    job = await site.house.submit()
    async with (
        site.house.working(FakeEngine(before_step=gate)),
        site.http.stream("GET", f"/v1/jobs/{job.id}/events") as response,
    ):
        kinds = []
        async for line in response.aiter_lines():
            if line.startswith("event: "):
                kinds.append(line.removeprefix("event: "))
            if kinds == ["queued", "started", "loading"]:
                gate.go_on.set()  # nothing more could have come before this
    assert kinds[-1] == "succeeded"
    assert "step" in kinds


async def test_a_watcher_that_leaves_frees_everything(site: Site) -> None:
    job = await site.house.submit()
    async with site.http.stream("GET", f"/v1/jobs/{job.id}/events") as response:
        async for line in response.aiter_lines():
            if line == "event: queued":
                break
        assert site.waiters.count == 1
    await site.waiters.end()


async def leave_while_waiting(
    site: Site, request: bytes, *, running: threading.Event | None = None
) -> Job:
    """Send a request on a bare socket; close it once its job is waited for, and ``running``."""
    _reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(site.url).port)
    writer.write(request)
    (job,) = await site.jobs(1)
    await site.waiters.reach(1)
    if running is not None:
        assert await asyncio.to_thread(running.wait, 30)
    writer.close()
    await writer.wait_closed()
    return job


def post(path: str, body: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join(
        (
            b"POST %s HTTP/1.1" % path.encode(),
            b"Host: sfumato",
            b"Content-Type: application/json",
            b"Content-Length: %d" % len(body),
            *headers,
            b"",
            body,
        )
    )


async def test_a_caller_of_generate_that_leaves_takes_its_queued_job_back(site: Site) -> None:
    job = await leave_while_waiting(site, post("/generate", b'{"prompt": "a castle"}'))
    assert (await site.house.finished(job)).status is JobStatus.CANCELED
    await site.waiters.end()


async def test_and_a_running_one_within_a_step(site: Site) -> None:
    gate = Gate()
    async with site.house.working(FakeEngine(before_step=gate)):
        request = post("/generate", b'{"prompt": "a castle"}')
        job = await leave_while_waiting(site, request, running=gate.reached)
        with site.house.watcher.subscribe(job.id) as changed:
            while not (await site.house.tracking.get(job.id)).cancel_requested:
                await changed.wait()
                changed.clear()
        gate.go_on.set()
        assert (await site.house.finished(job)).status is JobStatus.CANCELED


async def test_a_native_job_outlives_its_caller(site: Site) -> None:
    request = post("/v1/jobs", b'{"prompt": "a castle"}', b"Prefer: wait=300")
    job = await leave_while_waiting(site, request)
    await site.waiters.end()
    async with site.house.working():
        assert (await site.house.finished(job)).status is JobStatus.SUCCEEDED


async def test_a_server_that_stops_sends_its_waiters_away(site: Site) -> None:
    job = await site.house.submit()
    waiting = [
        asyncio.create_task(site.http.get(f"/v1/jobs/{job.id}/events")),
        asyncio.create_task(
            site.http.post("/v1/jobs", json={"prompt": "a"}, headers={"Prefer": "wait=300"})
        ),
    ]
    await site.jobs(2)
    await site.waiters.reach(2)
    site.context.stopping.set()
    stream, wait = await asyncio.gather(*waiting)
    assert "event: queued" in stream.text
    assert (wait.status_code, wait.json()["code"]) == (503, "stopping")
    assert wait.headers["Retry-After"]
    assert (await site.http.get("/readyz")).status_code == 503
    assert {job.status for job in await site.jobs(2)} == {JobStatus.QUEUED}


async def test_a_body_that_is_too_large_is_answered_before_it_is_sent(site: Site) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(site.url).port)
    writer.write(
        b"POST /v1/jobs HTTP/1.1\r\nHost: sfumato\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % (1024 * MAX_JOB_BYTES)
    )
    answer = await reader.readuntil(b"}")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"body_too_large"' in answer
    writer.close()
    await writer.wait_closed()


async def test_a_client_that_sends_too_much_reads_the_answer(site: Site) -> None:
    response = await site.http.post(
        "/generate",
        content=b" " * (MAX_JOB_BYTES + (8 << 20)),
        headers={"Content-Type": "application/json"},
    )
    assert response.status_code == 413
    assert (await site.http.get("/healthz")).status_code == 200


async def test_a_client_that_leaves_in_mid_body_is_no_error(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    _reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(site.url).port)
    writer.write(post("/v1/jobs", b'{"prompt": "a castle"}')[:-5])
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    # Its connection was accepted before this one, so its request has been seen by then.
    assert (await site.http.get("/healthz")).status_code == 200
    await asyncio.sleep(0)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    assert not (await site.house.tracking.list()).jobs
