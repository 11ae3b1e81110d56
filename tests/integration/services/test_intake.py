"""Tasks of other systems: one job each, results first, acknowledged last."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from sfumato.core.errors import StorageFull, Unavailable
from sfumato.core.job import JobStatus
from sfumato.core.ports import Task
from sfumato.core.request import GenerationRequest
from sfumato.core.runtimes import Runtime
from sfumato.services.intake import Intake
from sfumato.services.submission import Submission
from tests.support.parts import House, open_house
from tests.support.tasks import ListedResults, ListedTasks


def _task(name: str = "t", prompt: str = "a castle", num_images: int = 1, **fields: object) -> Task:
    return Task(name, GenerationRequest(prompt, num_images=num_images, **fields))  # type: ignore[arg-type]


@dataclass
class Bench:
    """A house with an intake. The source and the sink are lists."""

    house: House
    source: ListedTasks = field(default_factory=ListedTasks)
    sink: ListedResults = field(default_factory=ListedResults)

    def intake(self, **options: object) -> Intake:
        return Intake(
            source=self.source,
            sink=self.sink,
            submission=self.house.submission,
            tracking=self.house.tracking,
            **options,  # type: ignore[arg-type]
        )

    @contextlib.asynccontextmanager
    async def taking(self, **options: object) -> AsyncIterator[Intake]:
        intake = self.intake(**options)
        running = asyncio.create_task(intake.run())
        try:
            yield intake
        finally:
            intake.give_back()
            await running

    async def settled(self) -> None:
        await asyncio.wait_for(self.source.settled.wait(), 30)
        self.source.settled.clear()

    async def jobs(self) -> int:
        return len((await self.house.store.list()).jobs)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with open_house() as house:
        yield Bench(house)


async def test_a_task_is_acknowledged_after_its_pictures_are_handed_over(bench: Bench) -> None:
    bench.source.put(_task(num_images=3))
    async with bench.taking(), bench.house.working():
        await bench.settled()
    assert bench.source.acknowledged == ["t"]
    assert [image.media_type for image in bench.sink.images["t"]] == ["image/png"] * 3


async def test_the_same_task_again_is_the_same_job(bench: Bench) -> None:
    for _ in range(3):
        bench.source.put(_task())
    async with bench.taking(), bench.house.working():
        for _ in range(3):
            await bench.settled()
            if len(bench.source.acknowledged) == 3:
                break
    assert bench.source.acknowledged == ["t"] * 3
    assert await bench.jobs() == 1


async def test_a_task_that_can_be_no_job_is_answered_and_acknowledged(bench: Bench) -> None:
    bench.source.put(_task(model="patern"))
    async with bench.taking():
        await bench.settled()
    assert bench.sink.errors["t"].code == "unknown_model"
    assert bench.source.acknowledged == ["t"]


async def test_a_canceled_job_is_answered_as_such(bench: Bench) -> None:
    bench.source.put(_task())
    async with bench.taking():
        while not (jobs := (await bench.house.store.list()).jobs):
            await asyncio.sleep(0.001)
        await bench.house.tracking.cancel(jobs[0].id)
        await bench.settled()
    assert bench.sink.errors["t"].code == "canceled"
    assert bench.source.acknowledged == ["t"]


async def test_results_are_stored_once_their_place_is_back(bench: Bench) -> None:
    bench.sink.failures = [Unavailable("away"), Unavailable("away")]
    bench.source.put(_task())
    async with bench.taking(), bench.house.working():
        await bench.settled()
    assert bench.source.acknowledged == ["t"]
    assert bench.sink.calls == 3


async def test_results_that_do_not_fit_bring_the_task_again(bench: Bench) -> None:
    bench.sink.failures = [StorageFull("full")] * 9
    bench.source.put(_task())
    async with bench.taking(), bench.house.working():
        await bench.settled()
    assert bench.source.acknowledged == []
    assert bench.source.released[0][0] == "t"


async def test_too_many_waiting_jobs_send_a_task_back_for_a_while(bench: Bench) -> None:
    house = bench.house
    house.submission = Submission(
        store=house.store,
        queue=house.queue,
        images=house.images,
        catalog=house.catalog,
        runtimes=[Runtime("default")],
        clock=house.clock,
        hooks=house.hooks,
        max_queued=1,
    )
    await house.submit()
    bench.source.put(_task())
    async with bench.taking():
        await bench.settled()
    assert bench.source.released == [("t", 10.0)]


async def test_given_back_unfinished_it_is_released_and_resumed_elsewhere(bench: Bench) -> None:
    bench.source.put(_task())
    async with bench.taking():  # nobody works
        while not await bench.jobs():
            await asyncio.sleep(0.001)
    assert bench.source.released == [("t", 0.0)]
    bench.source.put(_task())
    bench.source.settled.clear()
    async with bench.taking(), bench.house.working():
        await bench.settled()
    assert bench.source.acknowledged == ["t"]
    assert await bench.jobs() == 1


async def test_drained_it_takes_no_more_but_sees_its_tasks_through(bench: Bench) -> None:
    bench.source.put(_task("one"))
    intake = bench.intake()
    running = asyncio.create_task(intake.run())
    await intake.began.wait()
    intake.drain()
    for _ in range(5):  # turns of the loop: it hears of it
        await asyncio.sleep(0)
    bench.source.put(_task("two"))
    async with bench.house.working():
        await running
    assert bench.source.acknowledged == ["one"]
    assert bench.source.waiting.qsize() == 1


async def test_a_task_under_way_is_kept_hidden(bench: Bench) -> None:
    bench.source.put(_task())
    async with bench.taking(visibility=0.03):
        await asyncio.wait_for(bench.source.extended.wait(), 30)


async def test_a_task_that_is_no_longer_ours_is_dropped(bench: Bench) -> None:
    bench.source.ours = False
    bench.source.put(_task())
    intake = bench.intake(visibility=0.03, once=True)
    await asyncio.wait_for(intake.run(), 30)
    assert (bench.source.acknowledged, bench.source.released) == ([], [])
    assert not bench.sink.calls


async def test_once_it_takes_one_task(bench: Bench) -> None:
    bench.source.put(_task("one"))
    bench.source.put(_task("two"))
    busy: list[bool] = []
    async with bench.house.working():
        await bench.intake(once=True, on_busy=busy.append).run()
    assert bench.source.acknowledged == ["one"]
    assert busy == [True, False]


async def test_once_without_a_task_it_ends(bench: Bench) -> None:
    intake = bench.intake(once=True)
    await intake.run()
    assert not intake.began.is_set()


async def test_no_more_tasks_are_taken_than_there_is_room_for(bench: Bench) -> None:
    for name in "abc":
        bench.source.put(_task(name))
    async with bench.taking(max_tasks=2):
        while await bench.jobs() < 2:
            await asyncio.sleep(0.001)
        assert bench.source.waiting.qsize() == 1
        async with bench.house.working():
            while len(bench.source.acknowledged) < 3:
                await bench.settled()
    statuses = {job.status for job in (await bench.house.store.list()).jobs}
    assert statuses == {JobStatus.SUCCEEDED}
