"""A worker's copies of models: whole and checked."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from pathlib import Path

import pytest

from sfumato.adapters.models.buckets import BucketModelCatalog
from sfumato.adapters.models.cache import ModelCache
from sfumato.adapters.models.publishing import BucketShelf
from sfumato.adapters.models.sources import BucketSource
from sfumato.adapters.models.store import ModelStore
from sfumato.core.errors import ModelUnusable, Unavailable
from sfumato.core.models import ModelFile, ModelInfo, ModelLayout, files_digest
from tests.support.model_cache import (
    MIB,
    Made,
    cache_of,
    check,
    ignore,
    left_over,
    made_up,
    model_of,
    read,
    use,
    whole_in,
)


async def test_a_local_model_is_given_as_it_is(tmp_path: Path) -> None:
    model = ModelInfo("here", "sd1", ModelLayout.DIFFUSERS, "/models/here")
    async with cache_of(tmp_path / "cache").hold([model], ignore) as (local,):
        assert local is model
    assert not (tmp_path / "cache").exists()


async def test_a_model_comes_whole_with_progress_and_once(tmp_path: Path) -> None:
    model = model_of("photo", 20 * MIB + 5, 3, 0)
    source = Made(model)
    cache = cache_of(tmp_path, source)
    told: list[tuple[int, int]] = []
    async with cache.hold([model], lambda done, total: told.append((done, total))) as (local,):
        check(model, local)
    assert local.path == str(tmp_path / files_digest(model.files))
    assert told[0] == (0, 20 * MIB + 8)
    assert told[-1] == (20 * MIB + 8, 20 * MIB + 8)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    reads = len(source.reads)
    assert reads == 4, "three ranges of 8 MiB, and a small file"
    async with cache.hold([model], ignore) as (again,):
        assert again == local
    assert len(source.reads) == reads
    assert left_over(tmp_path) == []


async def test_ranges_are_read_at_once_but_not_all_of_them(tmp_path: Path) -> None:
    model = model_of("photo", 80 * MIB)
    source = Made(model)
    source.gate.clear()
    held = asyncio.create_task(use(cache_of(tmp_path, source), model))
    under_way = 0

    original = source.read

    async def counted(file: ModelFile, start: int, end: int) -> bytes:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            return await original(file, start, end)
        finally:
            under_way -= 1

    most = 0
    source.read = counted  # type: ignore[method-assign]
    await source.begun.wait()
    while most < 8:
        await asyncio.sleep(0)
    source.gate.set()
    await held
    assert most == 8


async def test_a_wrong_hash_names_the_file_and_both_hashes_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    model = model_of("photo", MIB, 10)
    source = Made(model)
    source.spoilt = "part/1.bin"
    with pytest.raises(ModelUnusable) as failed:
        await use(cache_of(tmp_path, source), model)
    message = str(failed.value)
    assert "'photo'" in message
    assert "part/1.bin" in message
    assert model.files[1].sha256 in message
    assert hashlib.sha256(bytes(10)).hexdigest() in message
    assert left_over(tmp_path) == []
    assert whole_in(tmp_path) == []
    source.spoilt = None
    check(model, await use(cache_of(tmp_path, source), model))


async def test_a_source_that_is_away_for_a_moment_is_asked_again(tmp_path: Path) -> None:
    model = model_of("photo", 2 * MIB)
    source = Made(model)
    source.refusals = 1
    check(model, await use(cache_of(tmp_path, source), model))


async def test_what_broke_off_goes_on_with_the_files_that_lack(tmp_path: Path) -> None:
    model = model_of("photo", 100, 200)
    source = Made(model)

    def before(file: ModelFile, start: int) -> None:
        if file.path == "part/1.bin":
            assert (tmp_path / ".partial" / files_digest(model.files) / "part/0.bin").is_file()
            raise OSError(5, "Input/output error")

    async def first_alone(file: ModelFile, start: int, end: int) -> bytes:
        done = tmp_path / ".partial" / files_digest(model.files) / "part/0.bin"
        while file.path == "part/1.bin" and not done.is_file():
            await asyncio.sleep(0.001)
        return await Made.read(source, file, start, end)

    source.before = before
    source.read = first_alone  # type: ignore[method-assign]
    task = asyncio.create_task(use(cache_of(tmp_path, source), model))
    with pytest.raises(Unavailable, match="Input/output error"):
        await task
    # A cancelled copy, as of a job that is taken back, keeps what it has.
    source.before = lambda file, start: source.gate.clear() if start == 0 else None
    source.read = Made.read.__get__(source)  # type: ignore[method-assign]
    source.reads.clear()
    source.begun.clear()
    source.gate.clear()
    task = asyncio.create_task(use(cache_of(tmp_path, source), model))
    await source.begun.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    source.gate.set()
    source.before = lambda file, start: None
    check(model, await use(cache_of(tmp_path, source), model))
    assert left_over(tmp_path) == []


async def test_a_model_that_was_replaced_meanwhile_is_brought_in_its_new_form(
    tmp_path: Path,
) -> None:
    old, new = model_of("photo", 100, fill="old"), model_of("photo", 150, fill="new")
    source = Made(new)

    def gone(file: ModelFile, start: int) -> None:
        if file.size_bytes == 100:
            raise ModelUnusable("part/0.bin is no longer there")

    source.before = gone
    local = await use(cache_of(tmp_path, source), old)
    check(new, local)


async def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    model = model_of("photo", 10)
    with pytest.raises(Unavailable, match="SFUMATO_MODEL_CACHE"):
        await use(cache_of(tmp_path / "file/cache", Made(model)), model)


def written(folder: Path) -> ModelInfo:
    folder.mkdir()
    files = (ModelFile("weights.safetensors", 20 * MIB), ModelFile("config.json", 10))
    for file in files:
        (folder / file.path).write_bytes(made_up(file.path, file.size_bytes))
    return ModelInfo("photo", "sd1", ModelLayout.CHECKPOINT, "", files=files)


async def test_from_a_real_bucket_and_a_corrupted_object(store: ModelStore, tmp_path: Path) -> None:
    info = written(tmp_path / "photo")
    await BucketShelf(store).add(info, tmp_path / "photo", ignore, replacing=False)
    catalogue = BucketModelCatalog(store)

    async def latest(model: ModelInfo) -> ModelInfo:
        await catalogue.refresh()
        return catalogue.get(model.name)

    def cache(folder: str) -> ModelCache:
        return ModelCache(
            tmp_path / folder,
            budget=1 << 40,
            source_of=lambda model: BucketSource(store, model.source),
            latest=latest,
        )

    model = catalogue.get("photo")
    local = await use(cache("first"), model)
    content = made_up("weights.safetensors", 20 * MIB)
    assert local.path.endswith("/weights.safetensors")
    assert read(local.path) == content
    # One bit, in an object of the right size.
    key = f"{model.source}weights.safetensors"
    await store.put(key, content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ModelUnusable, match=r"weights.safetensors is not what was published"):
        await use(cache("second"), model)
    await store.delete(key)
    with pytest.raises(ModelUnusable, match="no longer"):
        await use(cache("second"), model)
    assert whole_in(tmp_path / "second") == left_over(tmp_path / "second") == []
