"""What is accepted, refused, and kept when the doorbell fails."""

from __future__ import annotations

from typing import Any

import pytest

from sfumato.core.errors import (
    IdempotencyConflict,
    InvalidRequest,
    Overloaded,
    Unavailable,
    UnknownModel,
    UnknownSampler,
)
from sfumato.core.job import JobStatus
from sfumato.core.request import Determinism, Limits
from sfumato.core.runtimes import Runtime
from sfumato.services.submission import Submission
from tests.support.parts import House, open_house


def _strict(house: House, **limits: Any) -> Submission:
    return Submission(
        store=house.store,
        queue=house.queue,
        images=house.images,
        catalog=house.catalog,
        runtimes=[Runtime("default")],
        clock=house.clock,
        hooks=house.hooks,
        limits=Limits(max_side=128, max_pixel_steps=64 * 64 * 20),
        **limits,
    )


async def test_what_is_left_out_takes_the_models_own_default() -> None:
    async with open_house() as house:
        used = (await house.submit()).settings
        assert (used.width, used.height, used.num_inference_steps) == (64, 64, 4)
        assert (used.model, used.sampler) == ("pattern", "euler")
        wide = (await house.submit(width=128, sampler="DPM++ 2M")).settings
        assert (wide.width, wide.height, wide.sampler) == (128, 128, "dpmpp_2m")


async def test_how_exact_a_picture_is_the_caller_says_or_else_the_operator() -> None:
    async with open_house() as house:
        assert (await house.submit()).settings.determinism is Determinism.FAST
        house.submission = _strict(house, determinism=Determinism.STRICT)
        assert (await house.submit()).settings.determinism is Determinism.STRICT
        asked = await house.submit(determinism=Determinism.FAST)
        assert (await house.tracking.get(asked.id)).settings.determinism is Determinism.FAST


async def test_a_seed_is_drawn_once_and_shown() -> None:
    async with open_house() as house:
        seeds = {(await house.submit()).settings.seed for _ in range(20)}
        assert len(seeds) > 15
        assert (await house.submit(seed=0)).settings.seed == 0


async def test_unknown_words_and_sizes_are_named_in_the_job() -> None:
    async with open_house() as house:
        job = await house.submit("a castle, A Zeppelin at night")
        assert job.notes == ("pattern does not know: zeppelin",)


@pytest.mark.parametrize(
    ("fields", "error", "field"),
    [
        ({"model": "patern"}, UnknownModel, "model"),
        ({"sampler": "eular"}, UnknownSampler, "sampler"),
        ({"runtime": "defualt"}, InvalidRequest, "runtime"),
        ({"width": 136}, InvalidRequest, "width"),
        ({"height": 136}, InvalidRequest, "height"),
        ({"num_images": 6}, InvalidRequest, "num_images"),
    ],
)
async def test_a_refused_request_leaves_nothing_behind(
    fields: dict[str, object], error: type[InvalidRequest], field: str
) -> None:
    async with open_house() as house:
        house.submission = _strict(house)
        with pytest.raises(error) as caught:
            await house.submit(**fields)
        assert caught.value.field == field
        assert caught.value.accepted
        assert not (await house.store.list()).jobs
        assert (await house.queue.depth("default")).ready == 0


async def test_beyond_the_bound_new_work_is_refused_and_accepted_work_kept() -> None:
    async with open_house() as house:
        house.submission = _strict(house, max_queued=2)
        kept = [await house.submit(), await house.submit()]
        with pytest.raises(Overloaded) as caught:
            await house.submit()
        assert caught.value.retry_after > 0
        async with house.working():
            for job in kept:
                assert (await house.finished(job)).status is JobStatus.SUCCEEDED
        await house.submit()


async def test_an_idempotency_key_makes_one_job_and_one_ring() -> None:
    async with open_house() as house:
        request = (await house.submit()).request
        first = await house.submission.submit(request, idempotency_key="k")
        again = await house.submission.submit(request, idempotency_key="k")
        assert again.id == first.id
        other = type(request)("something else")
        with pytest.raises(IdempotencyConflict):
            await house.submission.submit(other, idempotency_key="k")
        assert (await house.queue.depth("default")).ready == 2


async def test_a_job_whose_ring_failed_is_kept_and_rung_for_later() -> None:
    async with open_house() as house:
        ring = house.queue.ring

        async def broken(*_: object, **__: object) -> None:
            raise Unavailable("The queue is away.")

        house.queue.ring = broken  # type: ignore[method-assign]
        job = await house.submit()
        house.queue.ring = ring  # type: ignore[method-assign]
        assert (await house.tracking.get(job.id)).status is JobStatus.QUEUED
        async with house.working():
            await house.recovery.start()
            assert (await house.finished(job)).status is JobStatus.SUCCEEDED
