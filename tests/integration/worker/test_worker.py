"""The worker over real services and the memory adapters, with an engine that draws patterns."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Sequence

import pytest

from sfumato.core.errors import ModelUnusable, OutOfMemory, StorageFull, Unavailable
from sfumato.core.events import EventKind, NewEvent
from sfumato.core.job import AttemptOutcome, JobStatus
from sfumato.core.ports import DecodedImage, ImageTask, Slot
from sfumato.engine.fake import FakeEngine
from tests.support.gates import Gate, dropping, joined, releasing
from tests.support.parts import MODEL, open_house


async def test_jobs_that_join_together_have_their_prompts_read_together() -> None:
    together: list[list[str]] = []

    class Reading(FakeEngine):
        def prepare(self, tasks: Sequence[ImageTask]) -> None:
            together.append([task.job_id for task in tasks])

    gate = Gate()
    async with open_house() as house, house.working(Reading(before_step=gate)) as worker:
        first = await house.submit()
        await gate.wait_reached()
        others = [await house.submit(num_images=2) for _ in range(3)]
        await joined(worker, 4)
        gate.go_on.set()
        for job in (first, *others):
            assert (await house.finished(job)).status is JobStatus.SUCCEEDED
    assert together == [[job.id for job in others]]


async def test_a_job_ends_with_pictures_a_recipe_events_and_timings() -> None:
    async with open_house() as house, house.working():
        job = await house.finished(await house.submit(num_images=3, seed=7))
        assert job.status is JobStatus.SUCCEEDED
        assert [(image.index, image.seed) for image in job.images] == [(0, 7), (1, 8), (2, 9)]
        assert (await house.images.get(job.images[1].key)).data.startswith(b"\x89PNG")
        assert b'"seed":8' in (await house.images.get(f"jobs/{job.id}/{job.id}.json")).data
        kinds = await house.kinds(job)
        assert kinds[:3] == ["queued", "started", "loading"]
        assert kinds[-1] == "succeeded"
        assert kinds.count("image") == 3
        steps = [e.data for e in await house.store.events(job.id) if e.kind == "step"]
        assert (steps[-1]["step"], steps[-1]["steps"]) == (12, 12)
        assert job.timings.denoising > 0
        assert (await house.queue.depth("default")).ready == 0
        assert (await house.queue.depth("default")).hidden == 0


async def test_different_requests_share_their_steps() -> None:
    gate = Gate()
    async with open_house() as house, house.working(FakeEngine(before_step=gate)) as worker:
        first = await house.submit(num_inference_steps=8)
        await gate.wait_reached()
        others = [await house.submit(guidance_scale=g, num_inference_steps=4) for g in (0, 1, 3)]
        await joined(worker, 4)
        gate.go_on.set()
        for job in (first, *others):
            assert (await house.finished(job)).status is JobStatus.SUCCEEDED
    assert max(gate.batches) == 4
    assert sum(gate.batches) == 8 + 3 * 4


async def test_the_same_request_gives_the_same_bytes_alone_and_in_company() -> None:
    async with open_house() as house, house.working():
        alone = await house.finished(await house.submit(seed=5))
        together = [await house.submit(seed=seed) for seed in (4, 5, 6)]
        done = [await house.finished(job) for job in together]
    assert done[1].images[0].sha256 == alone.images[0].sha256
    assert len({job.images[0].sha256 for job in done}) == 3


async def test_a_broken_model_fails_its_job_and_no_other() -> None:
    broken = dataclasses.replace(MODEL, name="broken")
    engine = FakeEngine(broken_models={"broken": ModelUnusable("broken.safetensors is cut short.")})
    async with open_house(MODEL, broken) as house, house.working(engine):
        bad, good = await house.submit(model="broken"), await house.submit()
        bad, good = await house.finished(bad), await house.finished(good)
    assert bad.error is not None
    assert (bad.status, bad.error.code, bad.attempt) == (JobStatus.FAILED, "model_unusable", 1)
    assert good.status is JobStatus.SUCCEEDED


async def test_a_batch_out_of_memory_is_halved_and_nobody_fails() -> None:
    tried = []

    def too_many(slots: Sequence[Slot]) -> None:
        tried.append(len(slots))
        if len(slots) > 1:
            raise OutOfMemory("two are too many")

    async with open_house() as house, house.working(FakeEngine(before_step=too_many)):
        job = await house.finished(await house.submit(num_images=4))
    assert job.status is JobStatus.SUCCEEDED
    assert max(tried) == 4


async def test_a_failure_in_a_batch_is_its_own_jobs_alone() -> None:
    def fails_for_seed_13(slots: Sequence[Slot]) -> None:
        if any(slot.task.settings.seed == 13 for slot in slots):
            raise ValueError("unlucky")

    gate = Gate()

    def before(slots: Sequence[Slot]) -> None:
        gate(slots)
        fails_for_seed_13(slots)

    async with open_house() as house, house.working(FakeEngine(before_step=before)):
        blocker = await house.submit(seed=1)
        await gate.wait_reached()
        jobs = [await house.submit(seed=seed) for seed in (12, 13, 14)]
        gate.go_on.set()
        unlucky = await house.finished(jobs[1])
        for job in (blocker, jobs[0], jobs[2]):
            assert (await house.finished(job)).status is JobStatus.SUCCEEDED
    assert unlucky.status is JobStatus.FAILED
    assert unlucky.error is not None
    assert "unlucky" in unlucky.error.message
    assert unlucky.failures == 3
    attempts = await house.store.attempts(unlucky.id)
    assert [attempt.outcome for attempt in attempts] == [AttemptOutcome.FAILED] * 3


async def test_a_canceled_job_leaves_before_its_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, dropped = Gate(hold_from_step=2), dropping(monkeypatch)
    async with open_house() as house, house.working(FakeEngine(before_step=gate)):
        job = await house.submit(num_inference_steps=50)
        await gate.wait_reached()
        await house.tracking.cancel(job.id)
        await dropped.wait()
        gate.go_on.set()
        assert (await house.finished(job)).status is JobStatus.CANCELED
        assert (await house.finished(await house.submit())).status is JobStatus.SUCCEEDED
    assert len(gate.batches) == 2 + MODEL.defaults.num_inference_steps


async def test_a_drained_job_resumes_at_its_step_with_the_same_bytes() -> None:
    async with open_house() as house, house.working():
        whole = await house.finished(await house.submit(seed=3, num_inference_steps=9))

    gate = Gate(hold_from_step=4)
    async with open_house() as house:
        async with house.working(FakeEngine(before_step=gate), grace=0.0) as worker:
            job = await house.submit(seed=3, num_inference_steps=9)
            await gate.wait_reached()
            worker.drain()
            await releasing(worker)
            gate.go_on.set()
        assert (await house.tracking.get(job.id)).status is JobStatus.QUEUED

        steps: list[int] = []
        count = FakeEngine(before_step=lambda slots: steps.extend(slot.step for slot in slots))
        async with house.working(count, name="w2"):
            resumed = await house.finished(job)
        assert resumed.attempt == 2
        assert resumed.failures == resumed.losses == 0
        assert resumed.images[0].sha256 == whole.images[0].sha256
        assert steps == list(range(4, 9)), "no step is done twice"
        attempts = await house.store.attempts(job.id)
        assert [a.outcome for a in attempts] == [AttemptOutcome.RELEASED, AttemptOutcome.SUCCEEDED]


async def test_a_worker_drains_though_the_claim_under_way_fails() -> None:
    async with open_house() as house:
        claiming, fails = asyncio.Event(), asyncio.Event()

        async def away(*_: object, **__: object) -> None:
            claiming.set()
            await fails.wait()
            raise Unavailable("The database does not answer.")

        house.store.claim = away  # type: ignore[method-assign]
        await house.submit()
        worker = house.worker()
        running = asyncio.create_task(worker.run())
        await claiming.wait()
        worker.drain()
        await asyncio.sleep(0)  # the worker is told before the claim is
        await asyncio.sleep(0)
        fails.set()
        async with asyncio.timeout(30):
            await running


async def test_what_finishes_within_the_grace_is_not_released() -> None:
    gate = Gate()
    async with open_house() as house:
        async with house.working(FakeEngine(before_step=gate), grace=30.0) as worker:
            job = await house.submit()
            await gate.wait_reached()
            worker.drain()
            gate.go_on.set()
        done = await house.tracking.get(job.id)
    assert (done.status, done.attempt) == (JobStatus.SUCCEEDED, 1)


async def test_an_engine_that_can_not_be_made_ends_the_worker() -> None:
    def no_torch() -> FakeEngine:
        raise ImportError("no torch here")

    async with open_house() as house:
        worker = house.worker()
        worker._make_engine = no_torch
        job = await house.submit()
        with pytest.raises(ImportError, match="no torch here"):
            await worker.run()
        await house.recovery.worker_gone("w1", reason="it ended")
        assert (await house.tracking.get(job.id)).status is JobStatus.QUEUED


async def test_steps_go_on_while_pictures_are_encoded() -> None:
    encoding, stepped, gate = threading.Event(), threading.Event(), Gate()

    def step(slots: Sequence[Slot]) -> None:
        gate(slots)
        if encoding.is_set():
            stepped.set()

    def encode(_image: DecodedImage) -> None:
        encoding.set()
        assert stepped.wait(30), "no step was taken while a picture was encoded"

    engine = FakeEngine(before_step=step, before_encode=encode)
    async with open_house() as house, house.working(engine) as worker:
        jobs = [await house.submit(num_inference_steps=steps) for steps in (3, 40)]
        await joined(worker, 2)
        gate.go_on.set()
        for job in jobs:
            assert (await house.finished(job)).status is JobStatus.SUCCEEDED


async def test_a_picture_that_can_not_be_encoded_fails_its_job_alone() -> None:
    def encode(image: DecodedImage) -> None:
        if image.task.index == 1:
            raise ValueError("unlucky")

    async with open_house() as house, house.working(FakeEngine(before_encode=encode)):
        unlucky, other = await house.submit(num_images=3), await house.submit()
        failed = await house.finished(unlucky)
        assert (await house.finished(other)).status is JobStatus.SUCCEEDED
    assert failed.error is not None
    assert "unlucky" in failed.error.message


async def test_pictures_that_can_not_be_decoded_together_are_decoded_one_by_one() -> None:
    tried: list[int] = []

    def decode(slot: Slot) -> None:
        tried.append(slot.task.index)
        if slot.task.index == 2 and len(tried) <= 3:
            raise OutOfMemory("three are too many")

    async with open_house() as house, house.working(FakeEngine(before_decode=decode)):
        done = await house.finished(await house.submit(num_images=4))
    assert done.status is JobStatus.SUCCEEDED
    assert tried == [0, 1, 2, 2, 3]


async def test_a_picture_that_is_being_encoded_is_not_drawn_again_after_a_drain() -> None:
    encoding, may_end = threading.Event(), threading.Event()

    def encode(_image: DecodedImage) -> None:
        encoding.set()
        assert may_end.wait(30)

    begin, middle = Gate(), threading.Event()

    def step(slots: Sequence[Slot]) -> None:
        begin(slots)
        if encoding.is_set():
            assert middle.wait(30)

    engine = FakeEngine(before_step=step, before_encode=encode)
    async with open_house() as house:
        async with house.working(engine, grace=0.0) as worker:
            short = await house.submit(num_inference_steps=3)
            long = await house.submit(num_inference_steps=50)
            await joined(worker, 2)
            begin.go_on.set()
            assert await asyncio.to_thread(encoding.wait, 30)
            worker.drain()
            await releasing(worker)
            middle.set()
            may_end.set()
        assert (await house.tracking.get(short.id)).status is JobStatus.SUCCEEDED
        assert (await house.tracking.get(long.id)).status is JobStatus.QUEUED


async def test_a_full_disk_fails_the_job_with_that_reason() -> None:
    async with open_house() as house:

        async def full(key: str, data: bytes, *, media_type: str) -> None:
            raise StorageFull("The disk is full.")

        house.images.put = full  # type: ignore[method-assign]
        async with house.working():
            job = await house.finished(await house.submit())
    assert job.error is not None
    assert (job.status, job.error.code) == (JobStatus.FAILED, "storage_full")
    assert job.attempt == 1


async def test_what_only_watchers_would_learn_costs_no_attempt_when_it_can_not_be_told() -> None:
    async with open_house() as house:
        append = house.store.append

        async def away(job_id: str, token: int, events: Sequence[NewEvent]) -> bool:
            if {event.kind for event in events} & {EventKind.LOADING, EventKind.IMAGE}:
                raise Unavailable("The connection was lost at the moment of the commit.")
            return await append(job_id, token, events)

        house.store.append = away  # type: ignore[method-assign]
        async with house.working():
            job = await house.finished(await house.submit())
        assert (job.status, job.attempt, len(job.images)) == (JobStatus.SUCCEEDED, 1, 1)


async def test_a_stale_worker_changes_nothing() -> None:
    gate = Gate(hold_from_step=2)
    async with open_house() as house:
        async with house.working(FakeEngine(before_step=gate), max_jobs=1):
            job = await house.submit(seed=1)
            await gate.wait_reached()
            await house.recovery.worker_gone("w1", reason="it was taken for dead")
            async with house.working(name="w2"):
                done = await house.finished(job)
            gate.go_on.set()
        assert (await house.store.get(job.id)) == done
        assert done.attempt == 2
        assert (await house.kinds(job)).count("succeeded") == 1


async def test_an_idle_worker_stops_by_itself() -> None:
    async with open_house() as house:
        await house.worker(idle_timeout=0.01).run()


async def test_a_one_shot_worker_does_one_job_or_none() -> None:
    async with open_house() as house:
        await house.worker(once=True).run()
        first, second = await house.submit(), await house.submit()
        await house.worker(once=True, name="w2").run()
        statuses = [(await house.store.get(job.id)).status for job in (first, second)]
    assert sorted(statuses) == [JobStatus.QUEUED, JobStatus.SUCCEEDED]
