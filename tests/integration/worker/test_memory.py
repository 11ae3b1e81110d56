"""A worker whose memory is short: of rows, of models, of both."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Sequence

from sfumato.core.errors import ModelUnusable, OutOfMemory
from sfumato.core.extras import Refiner
from sfumato.core.job import JobStatus
from sfumato.core.ports import ImageTask, Slot
from sfumato.engine.fake import FakeEngine, FakeSlot
from tests.support.parts import MODEL, open_house

SECOND = dataclasses.replace(MODEL, name="second")
THIRD = dataclasses.replace(MODEL, name="third")


async def test_what_did_not_fit_is_not_tried_at_each_step() -> None:
    tried: list[int] = []

    def step(slots: Sequence[Slot]) -> None:
        tried.append(len(slots))
        if len(slots) > 2:
            raise OutOfMemory("three are too many")

    async with open_house() as house, house.working(FakeEngine(before_step=step)):
        job = await house.finished(await house.submit(num_images=4, num_inference_steps=20))
    assert job.status is JobStatus.SUCCEEDED
    assert sum(count for count in tried if count > 2) == 4, "the cap was forgotten"
    assert sum(count for count in tried if count <= 2) == 4 * 20, "a step was lost or repeated"


async def test_a_picture_that_does_not_fit_alone_fails_alone() -> None:
    def step(slots: Sequence[Slot]) -> None:
        if any(slot.task.settings.seed == 13 for slot in slots):
            raise OutOfMemory("A smaller picture would help.")

    async with open_house() as house, house.working(FakeEngine(before_step=step)):
        jobs = [await house.submit(seed=seed) for seed in (12, 13, 14)]
        done = [await house.finished(job) for job in jobs]
    assert [job.status for job in done] == [
        JobStatus.SUCCEEDED,
        JobStatus.FAILED,
        JobStatus.SUCCEEDED,
    ]
    assert done[1].error is not None
    assert (done[1].error.code, done[1].error.message) == (
        "out_of_memory",
        "A smaller picture would help.",
    )


async def test_a_picture_gets_the_room_of_models_that_nobody_uses() -> None:
    engine: FakeEngine

    def step(_slots: Sequence[Slot]) -> None:
        if len(engine.loaded()) > 1:
            raise OutOfMemory("An idle model is in the way.")

    async with open_house(MODEL, SECOND) as house:
        engine = FakeEngine(before_step=step)
        async with house.working(engine):
            for model in (MODEL, SECOND, MODEL):
                job = await house.finished(await house.submit(model=model.name))
                assert job.status is JobStatus.SUCCEEDED
        assert engine.loaded() == [MODEL.name]


async def test_what_a_request_names_gets_the_room_of_models_that_nobody_uses() -> None:
    class Crowded(FakeEngine):
        def admit(self, task: ImageTask) -> FakeSlot:
            if task.index == 1 and len(self.loaded()) > 1:
                raise OutOfMemory("An idle model is in the way of a ControlNet.")
            return super().admit(task)

    async with open_house(MODEL, SECOND) as house:
        engine = Crowded()
        async with house.working(engine):
            for model in (MODEL, SECOND):
                job = await house.finished(await house.submit(model=model.name, num_images=2))
                assert job.status is JobStatus.SUCCEEDED
        assert engine.loaded() == [SECOND.name]


async def test_a_model_that_finds_no_room_waits_for_those_in_use() -> None:
    began, go_on = threading.Event(), threading.Event()
    seen: list[str] = []

    def step(slots: Sequence[Slot]) -> None:
        seen.extend(slot.task.model.name for slot in slots)
        began.set()
        assert go_on.wait(30)

    engine = FakeEngine(before_step=step, models=1)
    async with open_house(MODEL, SECOND) as house, house.working(engine) as worker:
        first = await house.submit(num_inference_steps=9)
        assert await asyncio.to_thread(began.wait, 30)
        others = [await house.submit(model=name) for name in (SECOND.name, MODEL.name)]
        while len(worker._runs) < 3:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        go_on.set()
        for job in (first, *others):
            assert (await house.finished(job)).status is JobStatus.SUCCEEDED
    assert seen == sorted(seen, key=[MODEL.name, SECOND.name].index), "the loaded one goes first"
    assert seen.count(MODEL.name) == 9 + MODEL.defaults.num_inference_steps


async def test_a_refiner_is_loaded_beside_its_model_and_stays_while_it_is_needed() -> None:
    began, go_on = threading.Event(), threading.Event()
    seen: list[tuple[str, list[str]]] = []

    def step(slots: Sequence[Slot]) -> None:
        seen.append((slots[0].task.model.name, engine.loaded()))
        began.set()
        assert go_on.wait(30)

    engine = FakeEngine(before_step=step, models=2)
    async with open_house(MODEL, SECOND, THIRD) as house, house.working(engine) as worker:
        refined = await house.submit(refiner=Refiner(SECOND.name))
        assert await asyncio.to_thread(began.wait, 30)
        other = await house.submit(model=THIRD.name)
        while len(worker._runs) < 2:
            await asyncio.sleep(0)
        go_on.set()
        for job in (refined, other):
            assert (await house.finished(job)).status is JobStatus.SUCCEEDED
    assert [name for name, _ in seen] == [MODEL.name] * 4 + [THIRD.name] * 4
    assert all(loaded == [MODEL.name, SECOND.name] for _, loaded in seen[:4])


async def test_a_refiner_that_finds_no_room_beside_its_model_fails_its_job_alone() -> None:
    engine = FakeEngine(models=1)
    async with open_house(MODEL, SECOND) as house, house.working(engine):
        refined = await house.finished(await house.submit(refiner=Refiner(SECOND.name)))
        plain = await house.finished(await house.submit())
    assert refined.error is not None
    assert (refined.status, refined.error.code) == (JobStatus.FAILED, "out_of_memory")
    assert plain.status is JobStatus.SUCCEEDED


async def test_models_come_and_go_with_the_least_recently_used() -> None:
    told: list[list[str]] = []
    engine = FakeEngine(models=2)
    options = {"on_loaded": lambda models: told.append(list(models))}
    async with open_house(MODEL, SECOND, THIRD) as house, house.working(engine, **options):
        for model in (MODEL, SECOND, MODEL, THIRD):
            await house.finished(await house.submit(model=model.name))
    assert engine.loaded() == [MODEL.name, THIRD.name]
    assert told[-1] == sorted([MODEL.name, THIRD.name])


async def test_a_broken_model_leaves_the_others_where_they_are_however_often_it_is_tried() -> None:
    engine = FakeEngine(broken_models={"second": ModelUnusable("cut short")}, models=1)
    async with open_house(MODEL, SECOND) as house, house.working(engine):
        for _ in range(3):
            assert (await house.finished(await house.submit())).status is JobStatus.SUCCEEDED
            broken = await house.finished(await house.submit(model=SECOND.name))
            assert broken.status is JobStatus.FAILED
            assert engine.loaded() == [MODEL.name]
