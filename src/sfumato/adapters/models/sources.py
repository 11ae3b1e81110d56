"""Where a model's bytes can be read from, a range at a time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Protocol

from sfumato.adapters.models.store import ModelStore
from sfumato.core.errors import ModelUnusable
from sfumato.core.models import ModelFile


class RangeSource(Protocol):
    async def read(self, file: ModelFile, start: int, end: int) -> bytes:
        """Bytes ``start`` to ``end`` (excluded), all of them.

        Raises:
            ModelUnusable: the file is gone or was replaced; no further try will help.
            Unavailable: another try may.
        """
        ...


class FileSource:
    """A folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def read(self, file: ModelFile, start: int, end: int) -> bytes:
        return await asyncio.to_thread(self._read, self._folder / file.path, start, end)

    def _read(self, path: Path, start: int, end: int) -> bytes:
        try:
            with path.open("rb") as stream:
                stream.seek(start)
                return stream.read(end - start)
        except OSError as error:
            raise ModelUnusable(f"{path} can't be read: {error.strerror}.") from None


class BucketSource:
    """A folder of the models' bucket."""

    def __init__(self, store: ModelStore, folder: str) -> None:
        self._store = store
        self._folder = folder

    async def read(self, file: ModelFile, start: int, end: int) -> bytes:
        key = f"{self._folder}{file.path}"
        return await self._store.read(key, start, end, version=file.version)
