"""Models that lie elsewhere: what watchers see of their way, and what goes on meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from sfumato.core.errors import ModelUnusable
from sfumato.core.events import Event, EventKind
from sfumato.core.job import Job, JobStatus
from sfumato.core.models import ModelInfo, ModelKind, ModelLayout
from sfumato.core.ports import BytesProgress, ImageTask
from sfumato.engine.fake import FakeEngine, FakeSlot
from sfumato.worker.loop import Worker
from tests.support.parts import MODEL, House, open_house

FAR = replace(MODEL, name="far", source="far/")


class Way:
    """Brings models when the test says so."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.arrived = asyncio.Event()
        self.held = 0
        self.progress: BytesProgress = lambda done, total: None
        self.error: Exception | None = None

    @contextlib.asynccontextmanager
    async def hold(
        self, models: Sequence[ModelInfo], progress: BytesProgress
    ) -> AsyncIterator[Sequence[ModelInfo]]:
        self.progress = progress
        self.begun.set()
        await self.arrived.wait()
        if self.error is not None:
            raise self.error
        self.held += 1
        try:
            yield [replace(model, path=f"/cache/{model.name}") for model in models]
        finally:
            self.held -= 1


@contextlib.asynccontextmanager
async def working(house: House, way: Way) -> AsyncIterator[Worker]:
    worker = house.worker(files=way)
    running = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.drain()
        await running


async def told(house: House, job: Job, count: int) -> list[Event]:
    """The events of a model's loading, once there are so many."""
    async with contextlib.aclosing(house.tracking.events(job.id, after=0)) as events:
        found: list[Event] = []
        async for event in events:
            if event.kind is EventKind.LOADING:
                found.append(event)
            if len(found) == count:
                return found
    raise AssertionError(found)


async def test_watchers_see_how_much_is_here_and_other_jobs_go_on() -> None:
    way = Way()
    async with open_house(MODEL, FAR) as house, working(house, way):
        far = await house.submit(model="far")
        await way.begun.wait()
        assert (await house.finished(await house.submit())).status is JobStatus.SUCCEEDED
        way.progress(0, 400)
        await told(house, far, 1)
        for done in range(1, 181):
            way.progress(done, 400)
        events = await told(house, far, 2)
        assert [dict(event.data) for event in events] == [
            {"model": "far", "bytes_done": 0, "bytes_total": 400},
            {"model": "far", "bytes_done": 180, "bytes_total": 400},
        ]
        assert events[1].at - events[0].at >= 0.45
        way.arrived.set()
        done_job = await house.finished(far)
        assert done_job.status is JobStatus.SUCCEEDED
        assert done_job.timings.loading > 0.4
        assert way.held == 0 or await _let_go(way)


async def _let_go(way: Way) -> bool:
    """The end is told before the worker's last step: the model is let go right after."""
    while way.held:
        await asyncio.sleep(0)
    return True


async def test_what_is_used_beside_a_model_is_brought_too() -> None:
    way = Way()
    way.arrived.set()
    ink = ModelInfo("ink", "", ModelLayout.CHECKPOINT, "", source="ink/", kind=ModelKind.LORA)
    seen: list[ImageTask] = []

    class Watching(FakeEngine):
        def admit(self, task: ImageTask) -> FakeSlot:
            seen.append(task)
            return super().admit(task)

    async with open_house(MODEL, ink) as house:
        worker = house.worker(Watching(), files=way)
        running = asyncio.create_task(worker.run())
        job = await house.submit("a castle <lora:ink:0.5>")
        assert (await house.finished(job)).status is JobStatus.SUCCEEDED
        worker.drain()
        await running
    assert seen[0].extra(ModelKind.LORA, "ink").path == "/cache/ink"


async def test_a_model_that_is_not_what_it_should_be_fails_its_job_and_no_other() -> None:
    way = Way()
    way.error = ModelUnusable("unet.safetensors is not what was published")
    way.arrived.set()
    async with open_house(MODEL, FAR) as house, working(house, way):
        failed = await house.finished(await house.submit(model="far"))
        assert failed.status is JobStatus.FAILED
        assert failed.error is not None
        assert failed.error.code == "model_unusable"
        assert "not what was published" in failed.error.message
        way.error = ZeroDivisionError("a defect")
        failed = await house.finished(await house.submit(model="far"))
        assert failed.error is not None
        assert failed.error.code == "engine_failure"
        assert (await house.finished(await house.submit())).status is JobStatus.SUCCEEDED


async def test_a_job_can_be_taken_back_while_its_model_comes() -> None:
    way = Way()
    async with open_house(MODEL, FAR) as house, working(house, way):
        job = await house.submit(model="far")
        await way.begun.wait()
        await house.tracking.cancel(job.id)
        assert (await house.finished(job)).status is JobStatus.CANCELED


async def test_a_worker_that_drains_gives_the_job_back() -> None:
    way = Way()
    async with open_house(MODEL, FAR) as house:
        worker = house.worker(files=way, grace=0.0)
        running = asyncio.create_task(worker.run())
        job = await house.submit(model="far")
        await way.begun.wait()
        worker.drain()
        await running
        assert (await house.store.get(job.id)).status is JobStatus.QUEUED
        assert way.held == 0
