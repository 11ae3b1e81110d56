"""A model's bytes over HTTP alone, as for a worker that has no key to the bucket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import httpx

from sfumato.core.errors import ModelUnusable, Unavailable
from sfumato.core.models import ModelFile


class HttpSource:
    """Implements :class:`sfumato.adapters.models.sources.RangeSource` over URLs, as presigned ones.

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
