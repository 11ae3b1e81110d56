"""The pictures that requests bring along: stored before their job, and never without it for long."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sfumato.core.edits import Inpainting
from sfumato.core.errors import (
    IdempotencyConflict,
    InvalidRequest,
    NotFound,
    Overloaded,
    StorageFull,
    StoreBusy,
)
from sfumato.core.inputs import InputImage, input_key, read_input
from sfumato.core.job import Job, JobStatus
from sfumato.services.recovery import Recovery
from tests.support.parts import House, open_house
from tests.support.png import png

PICTURE, MASK = png(64, 48), png(64, 48, value=255)
IMAGE, MASK_IMAGE = read_input(PICTURE, field="init_image"), read_input(MASK, field="mask")
FILES = {IMAGE.sha256: PICTURE, MASK_IMAGE.sha256: MASK}


async def submit(house: House, **more: object) -> Job:
    return await house.submit(
        init_image=IMAGE, inpainting=Inpainting(MASK_IMAGE), inputs=FILES, **more
    )


def stored(house: House) -> list[str]:
    return sorted(house.images._objects)  # type: ignore[attr-defined]  # the memory adapter's own


async def test_pictures_are_stored_with_their_job_and_read_back() -> None:
    async with open_house() as house:
        job = await submit(house)
        for image in (IMAGE, MASK_IMAGE):
            kept = await house.tracking.input(job.id, image.sha256)
            assert (kept.data, kept.media_type) == (FILES[image.sha256], "image/png")
        with pytest.raises(NotFound, match="brought no picture"):
            await house.tracking.input(job.id, "ab" * 32)
        assignment = await house.execution().next(timeout=5)
        assert assignment is not None
        assert assignment.inputs == FILES


async def test_a_picture_that_did_not_come_is_refused() -> None:
    async with open_house() as house:
        with pytest.raises(InvalidRequest, match="did not come"):
            await house.submit(init_image=IMAGE, inputs={MASK_IMAGE.sha256: MASK})
        assert stored(house) == []


async def test_sent_again_the_same_pictures_are_kept_once() -> None:
    async with open_house() as house:
        request = (await submit(house)).request
        before = stored(house)
        first = await house.submission.submit(request, inputs=FILES, idempotency_key="k")
        again = await house.submission.submit(request, inputs=FILES, idempotency_key="k")
        assert again.id == first.id
        assert stored(house) == sorted(
            [*before, *(input_key(first.id, sha256) for sha256 in FILES)]
        )


async def test_a_key_with_another_picture_is_a_conflict_and_leaves_none() -> None:
    async with open_house() as house:
        request = (await submit(house)).request
        await house.submission.submit(request, inputs=FILES, idempotency_key="k")
        before = stored(house)
        other = png(64, 48, value=7)
        image = read_input(other, field="init_image")
        changed = type(request)(request.prompt, init_image=image)
        with pytest.raises(IdempotencyConflict):
            await house.submission.submit(
                changed, inputs={image.sha256: other}, idempotency_key="k"
            )
        assert stored(house) == before


@pytest.mark.parametrize("created", [False, True], ids=["refused", "answer lost"])
async def test_a_failed_create_leaves_no_picture_unless_the_job_was_made(
    monkeypatch: pytest.MonkeyPatch,
    created: bool,
) -> None:
    async with open_house() as house:
        create: Callable[..., object] = house.store.create

        async def failing(job: Job, *, idempotency_key: str | None) -> Job:
            if created:
                await create(job, idempotency_key=idempotency_key)  # type: ignore[misc]
            raise StoreBusy("The database is locked by another process.")

        monkeypatch.setattr(house.store, "create", failing)
        with pytest.raises(StoreBusy):
            await submit(house)
        assert len(stored(house)) == (2 if created else 0)


async def test_no_job_is_made_when_its_pictures_can_not_be_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_house() as house:
        put = house.images.put

        async def full(key: str, data: bytes, *, media_type: str) -> None:
            if data == MASK:
                raise StorageFull("The disk takes no more.")
            await put(key, data, media_type=media_type)

        monkeypatch.setattr(house.images, "put", full)
        with pytest.raises(StorageFull):
            await submit(house)
        assert stored(house) == []
        assert not (await house.store.list()).jobs


async def test_an_overloaded_service_stores_none(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_house() as house:
        monkeypatch.setattr(house.submission, "_max_queued", 0)
        with pytest.raises(Overloaded):
            await submit(house)
        assert stored(house) == []


async def test_a_job_past_its_keeping_takes_its_pictures_along() -> None:
    async with open_house() as house:
        kept, forgotten = await house.submit(init_image=IMAGE, inputs=FILES), await submit(house)
        await house.tracking.cancel(forgotten.id)
        recovery = Recovery(
            store=house.store,
            queue=house.queue,
            images=house.images,
            clock=house.clock,
            retention=0,
        )
        await recovery.sweep()
        assert stored(house) == [input_key(kept.id, IMAGE.sha256)]


async def test_a_job_whose_picture_is_gone_is_tried_again_then_fails_and_the_next_goes_on() -> None:
    async with open_house() as house:
        lost, other = await submit(house), await submit(house)
        await house.images.delete_prefix(input_key(lost.id, MASK_IMAGE.sha256))
        async with house.working():
            done = await house.finished(lost)
            assert (await house.finished(other)).status is JobStatus.SUCCEEDED
        assert done.status is JobStatus.FAILED
        assert (done.failures, done.error and done.error.code) == (3, "not_found")


async def test_a_job_redriven_still_has_its_pictures() -> None:
    async with open_house() as house:
        job = await submit(house)
        execution = house.execution()
        assignment = await execution.next(timeout=5)
        assert assignment is not None
        await house.store.finish(
            job.id, assignment.job.attempt, status=JobStatus.FAILED, now=house.clock.now()
        )
        await house.tracking.redrive(job.id)
        again = await execution.next(timeout=5)
        assert again is not None
        assert again.inputs == FILES


def test_the_same_picture_is_one_whatever_it_is_for() -> None:
    assert read_input(PICTURE, field="mask") == IMAGE
    assert isinstance(IMAGE, InputImage)
