"""A worker's copies of models: whole and checked, shared, within their budget."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest

from sfumato.adapters.models.buckets import BucketModelCatalog
from sfumato.adapters.models.cache import ModelCache
from sfumato.adapters.models.publishing import BucketShelf
from sfumato.adapters.models.sources import BucketSource, RangeSource
from sfumato.adapters.models.store import ModelStore
from sfumato.core.errors import ModelUnusable, StorageFull, Unavailable
from sfumato.core.models import ModelFile, ModelInfo, ModelLayout, files_digest

MIB = 1 << 20


def model_of(name: str, *sizes: int, fill: str = "") -> ModelInfo:
    """A model of files that :class:`Made` makes up."""
    files = [ModelFile(f"part/{n}.bin", size) for n, size in enumerate(sizes)]
    info = ModelInfo(name, "sd1", ModelLayout.DIFFUSERS, "", source=f"{fill or name}/")
    return replace(
        info,
        files=tuple(
            replace(file, sha256=hashlib.sha256(content_of(info, file)).hexdigest())
            for file in files
        ),
    )


def content_of(model: ModelInfo, file: ModelFile) -> bytes:
    return _made_up(f"{model.source}{file.path}", file.size_bytes)


@lru_cache
def _made_up(name: str, size: int) -> bytes:
    seed = hashlib.sha256(name.encode()).digest()
    return (seed * (size // 32 + 1))[:size]


class Made:
    """A source of made-up content; its ranges can be held, refused or spoilt."""

    def __init__(self, model: ModelInfo) -> None:
        self.model = model
        self.reads: list[tuple[str, int]] = []
        self.refusals = 0
        self.before: Callable[[ModelFile, int], object] = lambda file, start: None
        self.spoilt: str | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun = asyncio.Event()

    async def read(self, file: ModelFile, start: int, end: int) -> bytes:
        self.begun.set()
        await self.gate.wait()
        self.reads.append((file.path, start))
        self.before(file, start)
        if self.refusals:
            self.refusals -= 1
            raise Unavailable("not now")
        data = content_of(self.model, file)[start:end]
        return bytes(len(data)) if self.spoilt == file.path else data


def cache_of(folder: Path, *sources: Made, budget: int = 1 << 40) -> ModelCache:
    by_name = {source.model.name: source for source in sources}

    async def latest(model: ModelInfo) -> ModelInfo:
        return by_name[model.name].model

    def source_of(model: ModelInfo) -> RangeSource:
        return by_name[model.name]

    return ModelCache(folder, budget=budget, source_of=source_of, latest=latest)


def ignore(done: int, total: int) -> None:
    pass


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / ".partial").glob("*"))


def whole_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if not path.name.startswith(".")]


def read(path: str) -> bytes:
    return Path(path).read_bytes()


def check(model: ModelInfo, local: ModelInfo) -> None:
    for file in model.files:
        assert (Path(local.path) / file.path).read_bytes() == content_of(model, file)


async def test_a_local_model_is_given_as_it_is(tmp_path: Path) -> None:
    model = ModelInfo("here", "sd1", ModelLayout.DIFFUSERS, "/models/here")
    async with cache_of(tmp_path / "cache").hold(model, ignore) as local:
        assert local is model
    assert not (tmp_path / "cache").exists()


async def test_a_model_comes_whole_with_progress_and_once(tmp_path: Path) -> None:
    model = model_of("photo", 20 * MIB + 5, 3, 0)
    source = Made(model)
    cache = cache_of(tmp_path, source)
    told: list[tuple[int, int]] = []
    async with cache.hold(model, lambda done, total: told.append((done, total))) as local:
        check(model, local)
    assert local.path == str(tmp_path / files_digest(model.files))
    assert told[0] == (0, 20 * MIB + 8)
    assert told[-1] == (20 * MIB + 8, 20 * MIB + 8)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    reads = len(source.reads)
    assert reads == 4, "three ranges of 8 MiB, and a small file"
    async with cache.hold(model, ignore) as again:
        assert again == local
    assert len(source.reads) == reads
    assert left_over(tmp_path) == []


async def test_ranges_are_read_at_once_but_not_all_of_them(tmp_path: Path) -> None:
    model = model_of("photo", 80 * MIB)
    source = Made(model)
    source.gate.clear()
    held = asyncio.create_task(_use(cache_of(tmp_path, source), model))
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


async def _use(cache: ModelCache, model: ModelInfo) -> ModelInfo:
    async with cache.hold(model, ignore) as local:
        return local


async def test_a_wrong_hash_names_the_file_and_both_hashes_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    model = model_of("photo", MIB, 10)
    source = Made(model)
    source.spoilt = "part/1.bin"
    with pytest.raises(ModelUnusable) as failed:
        await _use(cache_of(tmp_path, source), model)
    message = str(failed.value)
    assert "'photo'" in message
    assert "part/1.bin" in message
    assert model.files[1].sha256 in message
    assert hashlib.sha256(bytes(10)).hexdigest() in message
    assert left_over(tmp_path) == []
    assert whole_in(tmp_path) == []
    source.spoilt = None
    check(model, await _use(cache_of(tmp_path, source), model))


async def test_a_source_that_is_away_for_a_moment_is_asked_again(tmp_path: Path) -> None:
    model = model_of("photo", 2 * MIB)
    source = Made(model)
    source.refusals = 1
    check(model, await _use(cache_of(tmp_path, source), model))


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
    task = asyncio.create_task(_use(cache_of(tmp_path, source), model))
    with pytest.raises(Unavailable, match="Input/output error"):
        await task
    # A cancelled copy, as of a job that is taken back, keeps what it has.
    source.before = lambda file, start: source.gate.clear() if start == 0 else None
    source.read = Made.read.__get__(source)  # type: ignore[method-assign]
    source.reads.clear()
    source.begun.clear()
    source.gate.clear()
    task = asyncio.create_task(_use(cache_of(tmp_path, source), model))
    await source.begun.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    source.gate.set()
    source.before = lambda file, start: None
    check(model, await _use(cache_of(tmp_path, source), model))
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
    local = await _use(cache_of(tmp_path, source), old)
    check(new, local)


async def test_two_caches_of_one_folder_copy_a_model_once(tmp_path: Path) -> None:
    model = model_of("photo", 3 * MIB)
    first, second = Made(model), Made(model)
    first.gate.clear()
    one = asyncio.create_task(_use(cache_of(tmp_path, first), model))
    await first.begun.wait()
    told: list[int] = []
    waiting = asyncio.Event()

    def progress(done: int, total: int) -> None:
        told.append(done)
        waiting.set()

    async def other() -> ModelInfo:
        async with cache_of(tmp_path, second).hold(model, progress) as local:
            return local

    two = asyncio.create_task(other())
    await waiting.wait()
    first.gate.set()
    assert await one == await two
    assert second.reads == []
    assert told[0] == 0


async def test_the_least_recently_used_goes_first_and_never_one_in_use(tmp_path: Path) -> None:
    models = [model_of(name, MIB) for name in ("a", "b", "c", "d")]
    sources = [Made(model) for model in models]
    cache = cache_of(tmp_path, *sources, budget=2 * MIB + 100)
    a, b, c, d = models

    def here() -> set[str]:
        return {model.name for model in models if (tmp_path / files_digest(model.files)).is_dir()}

    await _use(cache, a)
    await _use(cache, b)
    await _use(cache, a)
    await _use(cache, c)
    assert here() == {"a", "c"}
    async with cache_of(tmp_path, *sources).hold(a, ignore):
        await _use(cache, d)
        assert here() == {"a", "d"}, "c was used later than a, but a is in use"
        async with cache.hold(d, ignore):
            waiting = asyncio.create_task(_use(cache, b))
            await asyncio.sleep(0.5)
            assert not waiting.done()
            assert here() == {"a", "d"}
        await waiting
        assert here() == {"a", "b"}
    with pytest.raises(StorageFull, match="SFUMATO_MODEL_CACHE_BYTES"):
        await _use(cache_of(tmp_path, *sources, budget=100), c)
    assert left_over(tmp_path) == []


async def test_two_that_make_room_at_once_do_not_take_the_same(tmp_path: Path) -> None:
    models = [model_of(name, MIB) for name in ("a", "b")]
    sources = [Made(model) for model in models]
    for source in sources:
        source.gate.clear()
    caches = [cache_of(tmp_path, *sources, budget=MIB + 100) for _ in models]
    tasks = [
        asyncio.create_task(_use(cache, model)) for cache, model in zip(caches, models, strict=True)
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


async def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    model = model_of("photo", 10)
    with pytest.raises(Unavailable, match="SFUMATO_MODEL_CACHE"):
        await _use(cache_of(tmp_path / "file/cache", Made(model)), model)


CHILD = """
    import asyncio, sys
    from pathlib import Path
    from tests.integration.models.test_cache import Made, cache_of, model_of, MIB

    model = model_of("photo", 64 * MIB, 100)

    async def main():
        source = Made(model)
        original = source.read

        async def slow(file, start, end):
            if start >= 32 * MIB:
                await asyncio.Event().wait()
            return await original(file, start, end)

        source.read = slow
        told = lambda done, total: print(done, flush=True)
        async with cache_of(Path(sys.argv[1]), source).hold(model, told):
            pass

    asyncio.run(main())
"""


@contextlib.contextmanager
def copying(folder: Path) -> Iterator[None]:
    """A process that has copied half a model, and gets no further; killed with -9 at the end."""
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            for line in child.stdout:
                if int(line) == 32 * MIB + 100:
                    break
            small = list((folder / ".partial").rglob("1.bin"))
            while not small:  # its bytes are there, but it gets its name once they are durable
                time.sleep(0.005)
                small = list((folder / ".partial").rglob("1.bin"))
            yield
        finally:
            child.send_signal(signal.SIGKILL)


def killed_in_mid_copy(folder: Path) -> None:
    with copying(folder):
        pass


async def test_a_worker_that_waits_for_another_takes_over_when_that_is_killed(
    tmp_path: Path,
) -> None:
    model = model_of("photo", 64 * MIB, 100)
    source, told = Made(model), asyncio.Queue[int]()

    async def use() -> ModelInfo:
        cache = cache_of(tmp_path, source)
        async with cache.hold(model, lambda done, _total: told.put_nowait(done)) as local:
            return local

    with copying(tmp_path):
        using = asyncio.create_task(use())
        assert await told.get() >= 32 * MIB, "it sees what the other has"
        assert source.reads == []
    check(model, await using)
    assert ("part/1.bin", 0) not in source.reads


async def test_a_killed_worker_leaves_nothing_that_is_served(tmp_path: Path) -> None:
    model = model_of("photo", 64 * MIB, 100)
    killed_in_mid_copy(tmp_path)
    digest = files_digest(model.files)
    assert not (tmp_path / digest).exists()
    assert left_over(tmp_path) == [digest, f"{digest}.bytes"]
    # Another model's copy cleans up; it would not have fitted beside what was left.
    other = model_of("other", 10 * MIB)
    await _use(cache_of(tmp_path, Made(other), budget=20 * MIB), other)
    assert left_over(tmp_path) == []


async def test_the_next_copy_of_the_same_model_takes_over_from_a_killed_worker(
    tmp_path: Path,
) -> None:
    model = model_of("photo", 64 * MIB, 100)
    killed_in_mid_copy(tmp_path)
    source = Made(model)
    check(model, await _use(cache_of(tmp_path, source), model))
    assert ("part/1.bin", 0) not in source.reads, "that file was whole already"
    assert left_over(tmp_path) == []


def written(folder: Path) -> ModelInfo:
    folder.mkdir()
    files = (ModelFile("weights.safetensors", 20 * MIB), ModelFile("config.json", 10))
    for file in files:
        (folder / file.path).write_bytes(_made_up(file.path, file.size_bytes))
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
    local = await _use(cache("first"), model)
    content = _made_up("weights.safetensors", 20 * MIB)
    assert local.path.endswith("/weights.safetensors")
    assert read(local.path) == content
    # One bit, in an object of the right size.
    key = f"{model.source}weights.safetensors"
    await store.put(key, content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ModelUnusable, match=r"weights.safetensors is not what was published"):
        await _use(cache("second"), model)
    await store.delete(key)
    with pytest.raises(ModelUnusable, match="no longer"):
        await _use(cache("second"), model)
    assert whole_in(tmp_path / "second") == left_over(tmp_path / "second") == []
