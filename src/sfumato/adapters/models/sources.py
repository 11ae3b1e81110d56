"""Where a model's bytes can be read from, a range at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import httpx

from sfumato.adapters.models.store import ModelStore
from sfumato.core.errors import ModelUnusable, Unavailable
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


class HttpSource:
    """URLs that anybody can read, as presigned ones: for a worker without a key to the bucket.

    Args:
        url_of: a URL of a file; ``renew`` asks for a new one, since the last was refused as
            presigned ones are once they expire.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        url_of: Callable[[ModelFile, bool], Awaitable[str]],
    ) -> None:
        self._client = client
        self._url_of = url_of

    async def read(self, file: ModelFile, start: int, end: int) -> bytes:
        response = await self._get(file, start, end, renew=False)
        if response.status_code in (400, 401, 403):
            response = await self._get(file, start, end, renew=True)
        if response.status_code == 206:
            return response.content
        if response.status_code == 200 and start == 0:  # it is all there is
            return response.content[:end]
        place = f"{file.path} at {urlsplit(str(response.url)).hostname}"
        if response.status_code in (404, 410, 412, 416):
            raise ModelUnusable(f"{place} is gone or was replaced (HTTP {response.status_code}).")
        raise Unavailable(f"{place} can't be read: HTTP status {response.status_code}.")

    async def _get(self, file: ModelFile, start: int, end: int, *, renew: bool) -> httpx.Response:
        url = await self._url_of(file, renew)
        try:
            return await self._client.get(url, headers={"Range": f"bytes={start}-{end - 1}"})
        except httpx.HTTPError as error:
            raise Unavailable(
                f"{file.path} can't be read from {urlsplit(url).hostname}: {type(error).__name__}."
            ) from None
