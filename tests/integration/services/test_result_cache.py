"""What was drawn before is copied; whatever is wrong with it, it is drawn."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from sfumato.adapters.objects import ObjectImageStore
from sfumato.adapters.sql import Database, SqlJobStore
from sfumato.core.errors import Unavailable
from sfumato.core.events import Event
from sfumato.core.job import Job, JobStatus, image_key, recipe_key
from sfumato.core.keys import ApiKey, Caller, Scope
from sfumato.core.models import ModelFile
from sfumato.core.request import Determinism, GenerationRequest, OutputFormat
from tests.support.parts import MODEL, House, open_house

DRAWN = replace(MODEL, files=(ModelFile("unet/x.safetensors", 10, sha256="ab" * 32),))
SEEDED = {"seed": 7, "num_images": 2}


@contextlib.asynccontextmanager
async def remembering(tmp_path: Path) -> AsyncIterator[House]:
    """Over SQLite and a folder."""
    database = Database.open(f"sqlite:///{tmp_path / 'jobs.db'}")
    images = ObjectImageStore(tmp_path / "images")
    try:
        async with open_house(
            DRAWN, store=SqlJobStore(database), images=images, remembers=True
        ) as house:
            yield house
    finally:
        await images.close()
        await database.close()


async def drawn(house: House, **fields: object) -> Job:
    async with house.working():
        return await house.finished(await house.submit(**{**SEEDED, **fields}))


async def waits(house: House, **fields: object) -> bool:
    """Whether a request becomes a job that waits for a worker."""
    job = await house.submit(**{**SEEDED, **fields})
    if job.status is not JobStatus.QUEUED:
        return False
    await house.tracking.cancel(job.id)
    return True


async def test_the_same_request_is_answered_at_once_with_copies(tmp_path: Path) -> None:
    async with remembering(tmp_path) as house:
        first = await drawn(house)
        rung = (await house.queue.depth("default")).ready
        again = await house.submit(**SEEDED)
        assert again.status is JobStatus.SUCCEEDED
        assert f"drawn before as job {first.id}; its pictures were copied" in again.notes
        assert (await house.queue.depth("default")).ready == rung
        assert await house.kinds(again) == ["queued", "started", "image", "image", "succeeded"]
        assert [image.key for image in again.images] == [
            image_key(again.id, n, again.request.output_format) for n in range(2)
        ]
        for one, other in zip(first.images, again.images, strict=True):
            assert replace(other, key=one.key) == one
            assert await house.images.get(one.key) == await house.images.get(other.key)
        assert await house.images.get(recipe_key(again.id)) == await house.images.get(
            recipe_key(first.id)
        )


async def test_what_waits_on_a_page_sees_its_end(tmp_path: Path) -> None:
    async with remembering(tmp_path) as house:
        await drawn(house)
        again = await house.submit(**SEEDED)
        events: list[Event] = [event async for event in house.tracking.events(again.id)]
        assert [event.number for event in events] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 8},
        {"seed": None},
        {"num_images": 1},
        {"output_format": OutputFormat.WEBP},
        {"prompt": "a castle"},
        {"guidance_scale": 2.0},
        {"sampler": "heun"},
        {"determinism": Determinism.STRICT},
    ],
)
async def test_another_request_is_drawn(tmp_path: Path, other: dict[str, object]) -> None:
    async with remembering(tmp_path) as house:
        await drawn(house)
        assert not await waits(house)
        assert await waits(house, **other)


async def test_what_does_not_change_the_picture_does_not_matter(tmp_path: Path) -> None:
    async with remembering(tmp_path) as house:
        await drawn(house)
        assert not await waits(house, priority=5, metadata={"who": "me"}, num_inference_steps=4)


async def test_without_a_digest_nothing_is_remembered() -> None:
    async with open_house(MODEL, remembers=True) as house:
        await drawn(house)
        assert await waits(house)


async def test_weights_that_were_replaced_are_not_mistaken(tmp_path: Path) -> None:
    new = replace(DRAWN, files=(ModelFile("unet/x.safetensors", 10, sha256="cd" * 32),))
    async with remembering(tmp_path) as house:
        await drawn(house)
        house.catalog.models = (new,)
        assert await waits(house)


async def test_weights_that_are_replaced_while_they_draw_are_not_mistaken(tmp_path: Path) -> None:
    new = replace(DRAWN, files=(ModelFile("unet/x.safetensors", 10, sha256="cd" * 32),))
    async with remembering(tmp_path) as house:
        job = await house.submit(**SEEDED)
        house.catalog.models = (new,)
        for model, kept in ((DRAWN, 0), (new, 1)):
            weights = [{"kind": "base", "name": model.name, "sha256": model.sha256}]
            assert house.results is not None
            await house.results.keep(job, (), {"images": [{"weights": weights}]})
            assert len(list((tmp_path / "images").glob("results/*"))) == kept


async def test_where_its_pictures_are_gone_it_is_drawn_and_remembered_anew(tmp_path: Path) -> None:
    async with remembering(tmp_path) as house:
        first = await drawn(house)
        await house.images.delete_prefix(f"jobs/{first.id}/")
        second = await drawn(house)
        assert not any("drawn before" in note for note in second.notes)
        assert not await waits(house)


async def test_a_copy_is_remembered_in_place_of_the_first(tmp_path: Path) -> None:
    async with remembering(tmp_path) as house:
        first = await drawn(house)
        await house.submit(**SEEDED)
        await house.images.delete_prefix(f"jobs/{first.id}/")
        assert not await waits(house)


async def test_a_picture_that_is_no_longer_itself_is_drawn(tmp_path: Path) -> None:
    async with remembering(tmp_path) as house:
        first = await drawn(house)
        await house.images.put(first.images[1].key, b"another", media_type="image/png")
        second = await drawn(house)
        assert (await house.images.get(second.images[1].key)).data != b"another"


@pytest.mark.parametrize("entry", [b"", b"[]", b"{}", b'{"job": "x", "images": [{"a": 1}]}'])
async def test_an_entry_that_makes_no_sense_is_passed_over(tmp_path: Path, entry: bytes) -> None:
    async with remembering(tmp_path) as house:
        await drawn(house)
        (path,) = (tmp_path / "images" / "results").iterdir()
        assert json.loads(path.read_bytes())["images"]
        await house.images.put(f"results/{path.name}", entry, media_type="application/json")
        assert await waits(house)


async def test_a_store_that_fails_on_the_way_leaves_a_job_that_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with remembering(tmp_path) as house:
        await drawn(house)

        async def away(*_: object, **__: object) -> None:
            raise Unavailable("The database is away.")

        with monkeypatch.context() as patch:
            patch.setattr(house.store, "claim", away)
            job = await house.submit(**SEEDED)
        assert job.status is JobStatus.QUEUED
        async with house.working():
            assert (await house.finished(job)).status is JobStatus.SUCCEEDED


async def test_an_idempotency_key_gives_the_first_job_and_leaves_no_copies(tmp_path: Path) -> None:
    async with remembering(tmp_path) as house:
        async with house.working():
            request = GenerationRequest("a castle", seed=7)
            first = await house.submission.submit(request, idempotency_key="k")
            await house.finished(first)
        again = await house.submission.submit(request, idempotency_key="k")
        assert again.id == first.id
        assert [path.name for path in (tmp_path / "images" / "jobs").iterdir()] == [first.id]


async def test_callers_see_their_own_results_alone(tmp_path: Path) -> None:
    async with remembering(tmp_path) as house:
        await drawn(house)
        theirs = Caller(ApiKey("k1", "a bot", "ab", frozenset({Scope.GENERATE}), 0.0))
        request = GenerationRequest("a castle at night", **SEEDED)  # type: ignore[arg-type]
        job = await house.submission.for_caller(theirs).submit(request)
        assert job.status is JobStatus.QUEUED


async def test_it_is_off_unless_asked_for() -> None:
    async with open_house(DRAWN) as house:
        await drawn(house)
        assert await waits(house)
