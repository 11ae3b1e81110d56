"""What every ``Assignments`` keeps: claims, leases, fencing, and what becomes of a job.

Inherit :class:`AssignmentsContract`. ``store``, ``queue`` and ``images`` are in memory until a
class overrides them; ``hire`` makes a worker of a name over them, an ``Execution`` until a class
overrides it. Time is never waited for: a lease runs out when a test says so.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from sfumato.adapters.memory import MemoryImageStore, MemoryJobQueue, MemoryJobStore
from sfumato.bootstrap.parts import SystemClock
from sfumato.core.edits import Inpainting
from sfumato.core.inputs import input_key, read_input
from sfumato.core.job import AttemptOutcome, Job, JobError, JobStatus, Timings
from sfumato.core.models import ModelFile, ModelInfo, ModelKind, ModelLayout
from sfumato.core.ports import (
    Assignment,
    Assignments,
    EncodedImage,
    ImageStore,
    JobQueue,
    JobStore,
    Progress,
    Revocation,
)
from sfumato.services.doorbell import ring_for
from tests.support.parts import MODEL, House, open_house
from tests.support.png import png

#: Longer than any test takes: what should happen does so before.
PATIENCE = 30.0
#: Long enough for what should not happen to be seen, were it to happen.
A_WHILE = 0.3
LEASE = 30.0

Hire = Callable[[str], Awaitable[Assignments]]


def picture(index: int = 0, data: bytes = b"\x89PNG picture") -> EncodedImage:
    return EncodedImage(index, data, "image/png", 64, 64, seed=2**64 - 1, recipe={"index": index})


async def must_claim(worker: Assignments) -> Assignment:
    assignment = await worker.next(timeout=PATIENCE)
    assert assignment is not None
    return assignment


async def complete(worker: Assignments, assignment: Assignment) -> bool:
    """Store every picture and end the job."""
    count = assignment.job.request.num_images
    records = [await worker.store(assignment, picture(index)) for index in range(count)]
    return await worker.complete(
        assignment,
        records,
        timings=Timings(denoising=1.5),
        notes=["a note"],
        recipe={"images": [{"index": index} for index in range(count)]},
    )


INK = ModelInfo(
    "ink",
    MODEL.family,
    ModelLayout.CHECKPOINT,
    "",
    kind=ModelKind.LORA,
    files=(ModelFile("ink.safetensors", 5, "ab" * 32),),
)


class AssignmentsContract:
    @pytest.fixture
    async def store(self) -> JobStore:
        return MemoryJobStore()

    @pytest.fixture
    async def queue(self) -> JobQueue:
        return MemoryJobQueue(SystemClock())

    @pytest.fixture
    async def images(self) -> ImageStore:
        return MemoryImageStore()

    @pytest.fixture
    async def house(
        self, store: JobStore, queue: JobQueue, images: ImageStore
    ) -> AsyncIterator[House]:
        async with open_house(store=store, queue=queue, images=images) as house:
            yield house

    @pytest.fixture
    async def hire(self, house: House) -> Hire:
        async def execution(name: str) -> Assignments:
            return house.execution(name, lease=LEASE)

        return execution

    @pytest.fixture
    async def worker(self, hire: Hire) -> Assignments:
        return await hire("w1")

    @pytest.fixture
    async def other(self, hire: Hire) -> Assignments:
        return await hire("w2")

    async def leave(self, worker: Assignments) -> None:
        """What the process does for a worker that ends."""

    async def lose(self, house: House) -> None:
        """Let every lease run out."""
        for lease in await house.store.leases():
            job = await house.store.get(lease.job_id)
            await house.recovery.lost(job, reason="the lease ran out")

    # -- claims ----------------------------------------------------------------------------------

    async def test_the_pictures_of_a_job_come_with_it(
        self, house: House, worker: Assignments
    ) -> None:
        files = {
            read_input(data, field="x").sha256: data
            for data in (png(64, 48), png(64, 48, value=255))
        }
        image, mask = (read_input(data, field="x") for data in files.values())
        await house.submit(init_image=image, inpainting=Inpainting(mask), inputs=files)
        assert dict((await must_claim(worker)).inputs) == files

    async def test_a_job_whose_picture_is_gone_is_tried_again(
        self, house: House, worker: Assignments
    ) -> None:
        data = png(64, 48)
        image = read_input(data, field="x")
        lost = await house.submit(init_image=image, inputs={image.sha256: data})
        await house.images.delete_prefix(input_key(lost.id, ""))
        other = await house.submit()
        assert (await must_claim(worker)).job.id == other.id
        job = await house.store.get(lost.id)
        assert job.failures >= 1
        assert job.status in {JobStatus.QUEUED, JobStatus.FAILED}

    async def test_a_job_is_claimed_with_its_model(self, house: House, worker: Assignments) -> None:
        job = await house.submit("schön \N{SNOWMAN}", seed=2**64 - 1)
        assignment = await must_claim(worker)
        claimed = assignment.job
        assert (claimed.id, claimed.attempt, claimed.status) == (job.id, 1, JobStatus.RUNNING)
        assert (claimed.request, claimed.settings) == (job.request, job.settings)
        assert claimed.created_at == job.created_at
        assert claimed.started_at is not None
        assert (assignment.model.name, dict(assignment.checkpoint)) == ("pattern", {})
        assert (await house.store.get(job.id)).status is JobStatus.RUNNING

    async def test_what_a_request_names_beside_its_model_comes_with_it(
        self, house: House, worker: Assignments
    ) -> None:
        house.catalog.models = [MODEL, INK]
        await house.submit("a castle <lora:ink:0.5>")
        assignment = await must_claim(worker)
        assert [replace(extra, files=()) for extra in assignment.extras] == [replace(INK, files=())]
        assert [file.sha256 for file in assignment.extras[0].files] == ["ab" * 32]

    async def test_a_job_whose_lora_is_gone_fails_and_says_so(
        self, house: House, worker: Assignments
    ) -> None:
        house.catalog.models = [MODEL, INK]
        lost = await house.submit("a castle <lora:ink:0.5>")
        house.catalog.models = [MODEL]
        while not (job := await house.store.get(lost.id)).status.finished:
            assert await worker.next(timeout=A_WHILE) is None
        assert job.status is JobStatus.FAILED
        assert job.error is not None
        assert (job.error.code, "'ink'" in job.error.message) == ("unknown_model", True)

    async def test_without_a_job_it_gives_up_at_its_timeout(self, worker: Assignments) -> None:
        assert await worker.next(timeout=0) is None
        assert await worker.next(timeout=0.05) is None

    async def test_a_waiting_worker_hears_of_a_job(self, house: House, worker: Assignments) -> None:
        claiming = asyncio.create_task(must_claim(worker))
        await asyncio.sleep(0.05)
        job = await house.submit()
        assert (await claiming).job.id == job.id

    async def test_one_of_many_wins(self, house: House, hire: Hire) -> None:
        workers = [await hire(f"w{n}") for n in range(4)]
        claiming = [asyncio.create_task(worker.next(timeout=60)) for worker in workers]
        await house.submit()
        await asyncio.wait(claiming, return_when=asyncio.FIRST_COMPLETED)
        won, waiting = await asyncio.wait(claiming, timeout=A_WHILE)
        assert [claim.result() is not None for claim in won] == [True]
        for claim in waiting:
            claim.cancel()
        await asyncio.wait(waiting)

    async def test_a_job_canceled_while_queued_never_comes(
        self, house: House, worker: Assignments
    ) -> None:
        job = await house.submit()
        await house.tracking.cancel(job.id)
        assert await worker.next(timeout=A_WHILE) is None

    async def test_a_second_ring_is_harmless(
        self, house: House, worker: Assignments, other: Assignments
    ) -> None:
        job = await house.submit()
        assignment = await must_claim(worker)
        await house.queue.ring(ring_for(job))
        assert await other.next(timeout=A_WHILE) is None
        assert await worker.next(timeout=A_WHILE) is None
        assert await complete(worker, assignment)
        await house.queue.ring(ring_for(job))
        assert await other.next(timeout=A_WHILE) is None
        assert (await house.store.get(job.id)).attempt == 1

    @pytest.mark.parametrize("moment", range(0, 20, 4))
    async def test_a_worker_that_stops_while_it_claims_takes_no_job_with_it(
        self, house: House, worker: Assignments, other: Assignments, moment: int
    ) -> None:
        job = await house.submit()
        claiming = asyncio.create_task(must_claim(worker))
        for _ in range(moment):
            await asyncio.sleep(0.001)
        if not claiming.cancel():
            await worker.release(claiming.result(), reason="stopped", checkpoint={})
        await asyncio.wait([claiming])
        await self.leave(worker)
        assert (await must_claim(other)).job.id == job.id

    # -- leases ----------------------------------------------------------------------------------

    async def test_a_lease_is_extended(self, house: House, worker: Assignments) -> None:
        await house.submit()
        assignment = await must_claim(worker)
        assert await worker.extend(assignment)

    async def test_an_expired_lease_is_lost_to_the_next(
        self, house: House, worker: Assignments, other: Assignments
    ) -> None:
        job = await house.submit()
        assignment = await must_claim(worker)
        watching = asyncio.create_task(worker.revoked(assignment))
        await asyncio.sleep(0.05)
        await self.lose(house)
        async with asyncio.timeout(PATIENCE):
            assert await watching is Revocation.LOST
        again = await must_claim(other)
        assert (again.job.id, again.job.attempt, again.job.losses) == (job.id, 2, 1)

    async def test_a_stale_token_changes_nothing(
        self, house: House, worker: Assignments, other: Assignments
    ) -> None:
        job = await house.submit()
        stale = await must_claim(worker)
        await self.lose(house)
        fresh = await must_claim(other)
        before = await house.store.events(job.id)
        await worker.report(stale, Progress(1, 4))
        await worker.loading(stale)
        assert not await complete(worker, stale)
        assert not await worker.fail(stale, JobError("x", "y"), retryable=False)
        assert not await worker.canceled(stale)
        assert not await worker.release(stale, reason="z", checkpoint={})
        assert await house.store.events(job.id) == before
        assert (await house.store.get(job.id)).status is JobStatus.RUNNING
        assert await complete(other, fresh)

    async def test_a_cancel_reaches_the_worker(self, house: House, worker: Assignments) -> None:
        job = await house.submit()
        assignment = await must_claim(worker)
        watching = asyncio.create_task(worker.revoked(assignment))
        await asyncio.sleep(0.05)
        await house.tracking.cancel(job.id)
        async with asyncio.timeout(PATIENCE):
            assert await watching is Revocation.CANCELED
        assert await worker.extend(assignment)  # until the worker says that it has stopped
        assert await worker.canceled(assignment)
        assert (await house.store.get(job.id)).status is JobStatus.CANCELED

    # -- the ends of an attempt ------------------------------------------------------------------

    async def test_what_a_worker_tells_becomes_events_and_its_pictures_are_stored(
        self, house: House, worker: Assignments
    ) -> None:
        job = await house.submit(num_images=2)
        assignment = await must_claim(worker)
        await worker.loading(assignment)
        await worker.report(assignment, Progress(3, 8, "data:image/png;base64,AA==", 1))
        assert await complete(worker, assignment)

        done = await house.store.get(job.id)
        assert (done.status, done.attempt) == (JobStatus.SUCCEEDED, 1)
        assert (done.timings.denoising, done.notes[-1]) == (1.5, "a note")
        assert [image.key for image in done.images] == [f"jobs/{job.id}/{n}.png" for n in (0, 1)]
        data = (await house.images.get(done.images[1].key)).data
        digest = hashlib.sha256(data).hexdigest()
        assert (done.images[1].size_bytes, done.images[1].sha256) == (len(data), digest)
        assert done.images[1].seed == 2**64 - 1
        recipe = await house.images.get(f"jobs/{job.id}/{job.id}.json")
        assert json.loads(recipe.data) == {"images": [{"index": 0}, {"index": 1}]}

        kinds = await house.kinds(job)
        assert kinds == ["queued", "started", "loading", "step", "image", "image", "succeeded"]
        step = (await house.store.events(job.id))[3].data
        assert (step["step"], step["steps"], step["image"]) == (3, 8, 1)

    async def test_completed_twice_it_succeeds_once(
        self, house: House, worker: Assignments
    ) -> None:
        job = await house.submit()
        assignment = await must_claim(worker)
        assert await complete(worker, assignment)
        done = await house.store.get(job.id)
        await complete(worker, assignment)
        assert await house.store.get(job.id) == done
        assert (await house.kinds(job)).count("succeeded") == 1

    async def test_a_failure_that_may_pass_is_tried_again(
        self, house: House, worker: Assignments, other: Assignments
    ) -> None:
        job = await house.submit()
        assignment = await must_claim(worker)
        assert await worker.fail(assignment, JobError("out_of_memory", "too big"), retryable=True)
        again = await must_claim(other)
        assert (again.job.id, again.job.attempt, again.job.failures) == (job.id, 2, 1)

    async def test_a_failure_for_good_ends_the_job(self, house: House, worker: Assignments) -> None:
        job = await house.submit()
        assignment = await must_claim(worker)
        error = JobError("model_unusable", "the weights are truncated")
        assert await worker.fail(assignment, error, retryable=False)
        failed = await house.store.get(job.id)
        assert (failed.status, failed.error) == (JobStatus.FAILED, error)
        assert await worker.next(timeout=A_WHILE) is None

    async def test_a_released_job_is_resumed_by_another(
        self, house: House, worker: Assignments, other: Assignments
    ) -> None:
        job = await house.submit(num_images=2)
        assignment = await must_claim(worker)
        blob = bytes(range(256)) * 300
        assert await worker.release(assignment, reason="shutting down", checkpoint={1: blob})
        again = await must_claim(other)
        assert dict(again.checkpoint) == {1: blob}
        assert (again.job.attempt, again.job.failures, again.job.losses) == (2, 0, 0)
        assert [past.outcome for past in await house.store.attempts(job.id)] == [
            AttemptOutcome.RELEASED,
            None,
        ]
        assert await complete(other, again)
        assert await self.finished(house, job) == (JobStatus.SUCCEEDED, 2)

    async def finished(self, house: House, job: Job) -> tuple[JobStatus, int]:
        done = await house.store.get(job.id)
        return done.status, done.attempt
