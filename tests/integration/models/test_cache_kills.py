"""A worker's copies of models, when it is killed while it makes them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

from sfumato.core.models import ModelInfo, files_digest
from tests.support.model_cache import (
    MIB,
    Made,
    cache_of,
    check,
    left_over,
    model_of,
    use,
)

CHILD = """
    import asyncio, sys
    from pathlib import Path
    from tests.support.model_cache import Made, cache_of, model_of, MIB

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
        async with cache_of(Path(sys.argv[1]), source).hold([model], told):
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

    async def using_it() -> ModelInfo:
        cache = cache_of(tmp_path, source)
        async with cache.hold([model], lambda done, _total: told.put_nowait(done)) as (local,):
            return local

    with copying(tmp_path):
        using = asyncio.create_task(using_it())
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
    await use(cache_of(tmp_path, Made(other), budget=20 * MIB), other)
    assert left_over(tmp_path) == []


async def test_the_next_copy_of_the_same_model_takes_over_from_a_killed_worker(
    tmp_path: Path,
) -> None:
    model = model_of("photo", 64 * MIB, 100)
    killed_in_mid_copy(tmp_path)
    source = Made(model)
    check(model, await use(cache_of(tmp_path, source), model))
    assert ("part/1.bin", 0) not in source.reads, "that file was whole already"
    assert left_over(tmp_path) == []
