"""Copies of a bucket's models on this machine's disk, shared by its workers.

::

    <folder>/<digest>/            a model, whole and checked; never changed afterwards
    <folder>/.partial/<digest>/   one on its way; nobody reads it
    <folder>/.locks/<digest>      shared: in use; exclusive: being copied or deleted. Its
                                  modification time is the model's last use

A model comes into its place by one rename. What a killed worker left in ``.partial`` is taken up
by whoever copies the same model next, and deleted when another one is copied.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from sfumato.adapters.models.fetching import DISK_FULL, fetch, in_thread, synchronise
from sfumato.adapters.models.locks import ModelLock
from sfumato.adapters.models.sources import RangeSource
from sfumato.core.errors import InvalidRequest, ModelUnusable, StorageFull, Unavailable
from sfumato.core.models import ModelInfo, ModelLayout, files_digest
from sfumato.core.ports import BytesProgress

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.2


class _NoRoom(Exception):
    """There is none while others use their models; what is held here may be what they wait for."""


class _Counted:
    """The progress of several models as one.

    Attributes:
        patient: whether there is nothing held yet that others may wait for.
    """

    def __init__(self, models: Sequence[ModelInfo], progress: BytesProgress) -> None:
        self.patient = True
        self._totals = {files_digest(model.files): _total(model) for model in models}
        self._done: dict[str, int] = {}
        self._progress = progress

    def tell(self, digest: str, done: int, total: int) -> None:
        self._done[digest], self._totals[digest] = done, total
        self._progress(sum(self._done.values()), sum(self._totals.values()))

    def forget(self, model: ModelInfo) -> None:
        """Another version comes in its place."""
        digest = files_digest(model.files)
        self._totals.pop(digest, None)
        self._done.pop(digest, None)


class ModelCache:
    """Implements :class:`sfumato.core.ports.ModelFiles`.

    Args:
        folder: on a disk of this machine, for its locks to hold.
        budget: bytes that all copies together may take, those on their way included.
        source_of: where a model's files are read from.
        latest: what the catalogue says of a model by now; asked when a copy went wrong, for it
            may have been replaced meanwhile.
    """

    def __init__(
        self,
        folder: Path,
        *,
        budget: int,
        source_of: Callable[[ModelInfo], RangeSource],
        latest: Callable[[ModelInfo], Awaitable[ModelInfo]],
    ) -> None:
        self._folder = folder
        self._partial = folder / ".partial"
        self._locks = folder / ".locks"
        self._budget = budget
        self._source_of = source_of
        self._latest = latest

    @contextlib.asynccontextmanager
    async def hold(
        self, models: Sequence[ModelInfo], progress: BytesProgress
    ) -> AsyncIterator[Sequence[ModelInfo]]:
        far = [model for model in models if self._far(model)]
        if far:
            self._check_budget(models)
        counted = _Counted(far, progress)
        while True:
            counted.patient = True
            async with contextlib.AsyncExitStack() as held:
                try:
                    local = [await self._hold(model, held, counted) for model in models]
                except _NoRoom:
                    local = None
                if local is not None:
                    yield local
                    return
            await asyncio.sleep(_POLL_SECONDS)

    def _check_budget(self, models: Sequence[ModelInfo]) -> None:
        apart = {files_digest(model.files): _total(model) for model in models if model.source}
        total = sum(apart.values())
        if total > self._budget:
            what = (
                "The model has" if len(apart) == 1 else "The model and what is used beside it have"
            )
            raise StorageFull(
                f"{what} {total:,} bytes, and the cache may hold {self._budget:,}. Raise "
                "SFUMATO_MODEL_CACHE_BYTES."
            )

    def _far(self, model: ModelInfo) -> bool:
        return bool(model.source) and not (self._folder / files_digest(model.files)).is_dir()

    async def _hold(
        self, model: ModelInfo, held: contextlib.AsyncExitStack, counted: _Counted
    ) -> ModelInfo:
        """The model with its path; ``held`` then has the lock that keeps it."""
        if not model.source:
            return model
        try:
            local, lock = await self._bring(model, counted)
        except ModelUnusable as error:
            newer = await self._replacement(model)
            if newer is None:
                raise error from None
            counted.forget(model)
            local, lock = await self._bring(newer, counted)
        counted.patient = False
        held.callback(lock.close)
        return local

    async def _replacement(self, model: ModelInfo) -> ModelInfo | None:
        """What the catalogue has under the model's name by now, if that is another version."""
        try:
            newer = await self._latest(model)
        except (InvalidRequest, Unavailable):
            return None
        same = files_digest(newer.files) == files_digest(model.files)
        return None if same else newer

    async def _bring(self, model: ModelInfo, counted: _Counted) -> tuple[ModelInfo, ModelLock]:
        """The model with its path, and the shared lock that keeps it."""
        digest = files_digest(model.files)
        try:
            lock = self._lock(digest)
            try:
                await self._ensure(model, digest, lock, counted)
                lock.mark_used()
            except BaseException:
                lock.close()
                raise
        except OSError as error:
            if error.errno in DISK_FULL:
                raise StorageFull(
                    f"The disk of {self._folder} is full, and the model {model.name!r} needs "
                    f"{_total(model):,} bytes. Free some, or name another folder with "
                    "SFUMATO_MODEL_CACHE."
                ) from None
            raise Unavailable(
                f"The folder {self._folder} can't be used: {error.strerror}. Name another with "
                "SFUMATO_MODEL_CACHE."
            ) from None
        return replace(model, path=str(self._path_of(model, digest))), lock

    async def _ensure(
        self, model: ModelInfo, digest: str, lock: ModelLock, counted: _Counted
    ) -> None:
        """Returns with the model in its place and the lock shared."""
        place = self._folder / digest
        while True:
            if lock.try_shared():
                if place.is_dir():
                    return
                # Two that wait with it would keep each other from copying.
                lock.release()
            if not lock.try_exclusive():
                # Another copies, in this process or in one beside it.
                if not counted.patient and not self._reservation(digest).exists():
                    raise _NoRoom  # that one waits for room itself, maybe for what is held here
                here = await in_thread(_size_of, self._partial / digest)
                counted.tell(digest, here, _total(model))
                await asyncio.sleep(_POLL_SECONDS)
            elif not place.is_dir():
                await self._copy(model, digest, counted)

    async def _copy(self, model: ModelInfo, digest: str, counted: _Counted) -> None:
        partial = self._partial / digest
        try:
            await self._make_room(digest, _total(model), patient=counted.patient)
            await fetch(
                self._source_of(model),
                model.files,
                partial,
                lambda done, total: counted.tell(digest, done, total),
            )
            await in_thread(self._settle, digest)
        except ModelUnusable as error:
            await in_thread(self._discard, digest)
            raise ModelUnusable(
                f"The model {model.name!r} can't be used: {error.message}"
            ) from None
        except OSError:
            await in_thread(self._discard, digest)
            raise
        log.info("model %s is here, %d bytes", model.name, _total(model))

    def _settle(self, digest: str) -> None:
        (self._partial / digest).rename(self._folder / digest)
        synchronise(self._folder)
        self._reservation(digest).unlink(missing_ok=True)

    def _discard(self, digest: str) -> None:
        shutil.rmtree(self._partial / digest, ignore_errors=True)
        self._reservation(digest).unlink(missing_ok=True)

    def _reservation(self, digest: str) -> Path:
        """Holds the bytes that a model on its way will take."""
        return self._partial / f"{digest}.bytes"

    async def _make_room(self, digest: str, total: int, *, patient: bool) -> None:
        """Delete what was used least recently until the model fits. Waits for models in use, or,
        if not ``patient``, raises ``_NoRoom``."""
        waited = False
        while not await in_thread(self._try_room, digest, total):
            if not patient:
                raise _NoRoom
            if not waited:
                log.warning("every model in %s is in use; waiting for room", self._folder)
            waited = True
            await asyncio.sleep(_POLL_SECONDS)

    def _try_room(self, digest: str, total: int) -> bool:
        # One at a time: two that count together would both take the same room.
        gate = self._lock("room")
        try:
            if not gate.try_exclusive():
                return False
            self._delete_leftovers(digest)
            room = self._budget - self._taken(digest)
            for other in self._least_recent_first():
                if room >= total:
                    break
                room += self._evict(other)
            if room < total:
                return False
            (self._partial / digest).mkdir(parents=True, exist_ok=True)
            self._reservation(digest).write_text(str(total))
            return True
        finally:
            gate.close()

    def _taken(self, digest: str) -> int:
        """Bytes of every other model, counting those on their way as a whole."""
        here = self._models()
        names = {digest, *(path.name for path in here)}
        coming = [path for path in self._partial.glob("*.bytes") if path.stem not in names]
        return sum(map(_size_of, here)) + sum(map(_number_in, coming))

    def _models(self) -> list[Path]:
        return [path for path in self._folder.iterdir() if not path.name.startswith(".")]

    def _least_recent_first(self) -> list[str]:
        def used_at(digest: str) -> float:
            try:
                return (self._locks / digest).stat().st_mtime
            except OSError:
                return 0.0

        return sorted((path.name for path in self._models()), key=used_at)

    def _evict(self, digest: str) -> int:
        """Delete a model that nobody uses; answers how many bytes that gave."""
        lock = self._lock(digest)
        try:
            if not lock.try_exclusive():
                return 0
            size = _size_of(self._folder / digest)
            # Renamed first, so that a kill in the middle leaves no half model in its place.
            leaving = self._partial / f"{digest}.deleted"
            self._partial.mkdir(exist_ok=True)
            shutil.rmtree(leaving, ignore_errors=True)
            (self._folder / digest).rename(leaving)
            shutil.rmtree(leaving, ignore_errors=True)
            log.info("deleted the copy of a model, %d bytes: least recently used", size)
            return size
        finally:
            lock.close()

    def _delete_leftovers(self, digest: str) -> None:
        """What workers left behind that were killed while they copied other models."""
        for path in self._partial.iterdir() if self._partial.is_dir() else ():
            name = path.name.partition(".")[0]
            if name == digest:
                continue
            lock = self._lock(name)
            try:
                if not lock.try_exclusive():
                    continue
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
            finally:
                lock.close()

    def _lock(self, name: str) -> ModelLock:
        return ModelLock(self._locks / name)

    def _path_of(self, model: ModelInfo, digest: str) -> Path:
        place = self._folder / digest
        return place / model.files[0].path if model.layout is ModelLayout.CHECKPOINT else place


def _total(model: ModelInfo) -> int:
    return sum(file.size_bytes for file in model.files)


def _size_of(folder: Path) -> int:
    """Bytes on disk below a folder; what vanishes meanwhile counts nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(place) / name).stat().st_size
    return total


def _number_in(path: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text())
    return 0
