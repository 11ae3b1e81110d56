"""A worker's copies of models: shared, and within their budget."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from sfumato.core.errors import StorageFull
from sfumato.core.models import ModelInfo, files_digest
from tests.support.model_cache import (
    MIB,
    Made,
    cache_of,
    check,
    ignore,
    left_over,
    model_of,
    use,
)


async def test_two_caches_of_one_folder_copy_a_model_once(tmp_path: Path) -> None:
    model = model_of("photo", 3 * MIB)
    first, second = Made(model), Made(model)
    first.gate.clear()
    one = asyncio.create_task(use(cache_of(tmp_path, first), model))
    await first.begun.wait()
    told: list[int] = []
    waiting = asyncio.Event()

    def progress(done: int, total: int) -> None:
        told.append(done)
        waiting.set()

    async def other() -> ModelInfo:
        async with cache_of(tmp_path, second).hold([model], progress) as (local,):
            return local

    two = asyncio.create_task(other())
    await waiting.wait()
    first.gate.set()
    assert await one == await two
    assert second.reads == []
    assert told[0] == 0


async def test_the_least_recently_used_goes_first_and_never_one_inuse(tmp_path: Path) -> None:
    models = [model_of(name, MIB) for name in ("a", "b", "c", "d")]
    sources = [Made(model) for model in models]
    cache = cache_of(tmp_path, *sources, budget=2 * MIB + 100)
    a, b, c, d = models

    def here() -> set[str]:
        return {model.name for model in models if (tmp_path / files_digest(model.files)).is_dir()}

    await use(cache, a)
    await use(cache, b)
    await use(cache, a)
    await use(cache, c)
    assert here() == {"a", "c"}
    async with cache_of(tmp_path, *sources).hold([a], ignore):
        await use(cache, d)
        assert here() == {"a", "d"}, "c was used later than a, but a is in use"
        async with cache.hold([d], ignore):
            waiting = asyncio.create_task(use(cache, b))
            await asyncio.sleep(0.5)
            assert not waiting.done()
            assert here() == {"a", "d"}
        await waiting
        assert here() == {"a", "b"}
    with pytest.raises(StorageFull, match="SFUMATO_MODEL_CACHE_BYTES"):
        await use(cache_of(tmp_path, *sources, budget=100), c)
    assert left_over(tmp_path) == []


async def test_two_that_make_room_at_once_do_not_take_the_same(tmp_path: Path) -> None:
    models = [model_of(name, MIB) for name in ("a", "b")]
    sources = [Made(model) for model in models]
    for source in sources:
        source.gate.clear()
    caches = [cache_of(tmp_path, *sources, budget=MIB + 100) for _ in models]
    tasks = [
        asyncio.create_task(use(cache, model)) for cache, model in zip(caches, models, strict=True)
    ]
    begun = [asyncio.create_task(source.begun.wait()) for source in sources]
    await asyncio.wait(begun, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(0.3)
    assert sum(source.begun.is_set() for source in sources) == 1
    for source in sources:
        source.gate.set()
    for model, task in zip(models, tasks, strict=True):
        assert (await task).name == model.name
    await asyncio.gather(*begun)


async def test_a_model_and_what_is_used_beside_it_come_together(tmp_path: Path) -> None:
    photo, ink, near = model_of("photo", MIB), model_of("ink", 1000), model_of("near", 10)
    sources = [Made(model) for model in (photo, ink, near)]
    cache = cache_of(tmp_path, *sources)
    await use(cache, near)
    told: list[tuple[int, int]] = []
    wanted = [photo, ink, replace(near, source="", path="/models/near"), near]
    async with cache.hold(wanted, lambda done, total: told.append((done, total))) as here:
        check(photo, here[0])
        check(ink, here[1])
        assert here[2] is wanted[2]
        check(near, here[3])
    assert told[-1] == (MIB + 1000, MIB + 1000)
    assert {total for _, total in told} == {MIB + 1000}


async def test_what_does_not_fit_together_is_told_before_anything_is_copied(tmp_path: Path) -> None:
    models = [model_of(name, MIB) for name in ("a", "b")]
    sources = [Made(model) for model in models]
    cache = cache_of(tmp_path, *sources, budget=2 * MIB - 1)
    with pytest.raises(StorageFull, match=r"The model and what is used beside it have 2,097,152"):
        async with cache.hold(models, ignore):
            raise AssertionError("it was served")
    assert not any(source.reads for source in sources)
    async with cache.hold([models[0], models[0]], ignore) as (one, other):
        assert one == other


async def test_two_that_need_room_for_several_do_not_wait_for_each_other(tmp_path: Path) -> None:
    models = [model_of(name, MIB) for name in ("a", "b", "c", "d")]
    sources = [Made(model) for model in models]
    a, b, c, d = models
    budget = 2 * MIB + 100

    async def both(first: ModelInfo, second: ModelInfo) -> None:
        async with cache_of(tmp_path, *sources, budget=budget).hold(
            [first, second], ignore
        ) as here:
            for model, local in zip((first, second), here, strict=True):
                check(model, local)

    # Each gets its first model, and then has no room for its second while the other keeps its own.
    async with asyncio.timeout(60):
        await asyncio.gather(both(a, b), both(c, d), both(b, a))
    assert left_over(tmp_path) == []
