"""Copies a model's files into a folder: in parallel ranges, with bounded memory, and checked.

A file is written as ``<name>.part`` and gets its name once its size and SHA-256 are right and it
is on stable storage. A copy that broke off goes on with the files that it lacks.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import os
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sfumato.adapters.models.sources import RangeSource
from sfumato.core.checkpoints import read_header
from sfumato.core.errors import ModelUnusable, Unavailable
from sfumato.core.models import ModelFile
from sfumato.core.ports import BytesProgress

log = logging.getLogger(__name__)

_Result = TypeVar("_Result")

#: A range, and how many are on their way at once: 64 MiB of memory at most.
_RANGE_BYTES, _RANGES = 8 << 20, 8
#: Seconds between the tries of a range, and of the bucket as a whole when it is away.
_RETRY_DELAYS = (0.2, 0.5, 1.0, 3.0, 8.0)
#: The operating system's errors for a full disk.
DISK_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}


async def fetch(
    source: RangeSource, files: Sequence[ModelFile], folder: Path, progress: BytesProgress
) -> None:
    """Bring every file into ``folder``; on an error what is whole stays there.

    Raises:
        ModelUnusable: naming the file, what was expected and what was found.
        OSError: the disk takes no more, or refuses.
        Unavailable: the source does not answer, after several tries.
    """
    await _Fetch(source, files, folder, progress).run()


class _Fetch:
    def __init__(
        self,
        source: RangeSource,
        files: Sequence[ModelFile],
        folder: Path,
        progress: BytesProgress,
    ) -> None:
        self._source = source
        self._files = files
        self._folder = folder
        self._progress = progress
        self._total = sum(file.size_bytes for file in files)
        self._done = 0
        self._permits = asyncio.Semaphore(_RANGES)

    async def run(self) -> None:
        self._advance(0)
        await _all(self._bring(file) for file in self._files)
        await in_thread(_synchronise_folders, self._folder)

    def _advance(self, size: int) -> None:
        self._done += size
        self._progress(self._done, self._total)

    async def _bring(self, file: ModelFile) -> None:
        target = self._folder / file.path
        if target.is_file():
            self._advance(file.size_bytes)
            return
        part = target.with_name(f"{target.name}.part")
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            starts = range(0, file.size_bytes, _RANGE_BYTES)
            await _all(self._copy(file, start, descriptor) for start in starts)
            await in_thread(_check, file, descriptor)
            await in_thread(os.fsync, descriptor)
        finally:
            os.close(descriptor)
        part.rename(target)

    async def _copy(self, file: ModelFile, start: int, descriptor: int) -> None:
        end = min(start + _RANGE_BYTES, file.size_bytes)
        async with self._permits:
            data = await self._read(file, start, end)
            await in_thread(_write, descriptor, data, start)
        self._advance(len(data))

    async def _read(self, file: ModelFile, start: int, end: int) -> bytes:
        for delay in _RETRY_DELAYS:
            try:
                return await self._read_once(file, start, end)
            except Unavailable as error:
                log.warning("%s; trying again in %g s", error, delay)
                await asyncio.sleep(delay)
        return await self._read_once(file, start, end)

    async def _read_once(self, file: ModelFile, start: int, end: int) -> bytes:
        data = await self._source.read(file, start, end)
        if len(data) != end - start:
            raise ModelUnusable(
                f"{file.path} is truncated: it should have {file.size_bytes:,} bytes, and ends at "
                f"{start + len(data):,}."
            )
        return data


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run everything at once; the first error ends the rest, and is raised as it is."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def in_thread(function: Callable[..., _Result], *arguments: object) -> _Result:
    """As ``asyncio.to_thread``, but whoever is cancelled waits for the thread to be through: it
    works on what is closed or unlocked afterwards."""
    work = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _check(file: ModelFile, descriptor: int) -> None:
    """Compare what lies on this disk with what was promised."""
    with os.fdopen(os.dup(descriptor), "rb") as stream:
        if file.sha256:
            stream.seek(0)
            found = hashlib.file_digest(stream, "sha256").hexdigest()
            if found != file.sha256:
                raise ModelUnusable(
                    f"{file.path} is not what was published: its SHA-256 should be {file.sha256}, "
                    f"and is {found}. Add the model again with `sfumato models add --replace`."
                )
        elif file.path.endswith(".safetensors"):
            stream.seek(0)
            try:
                read_header(stream, os.fstat(descriptor).st_size)
            except ModelUnusable as error:
                raise ModelUnusable(f"{file.path} can't be used: {error.message}") from None


def _synchronise_folders(root: Path) -> None:
    for folder, _, _ in os.walk(root):
        synchronise(Path(folder))


def synchronise(folder: Path) -> None:
    """Bring a folder's entries to stable storage."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
