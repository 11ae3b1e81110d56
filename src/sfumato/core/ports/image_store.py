"""Where pictures are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredObject:
    data: bytes
    media_type: str


class ImageStore(Protocol):
    """Pictures and recipes by key. A second ``put`` of a key replaces the object whole."""

    async def put(self, key: str, data: bytes, *, media_type: str) -> None:
        """Raises ``StorageFull`` or ``Unavailable``; then no half-written object is left."""
        ...

    async def get(self, key: str) -> StoredObject:
        """Raises ``NotFound``."""
        ...

    async def size(self, key: str) -> int:
        """Bytes of the object, without reading it. Raises ``NotFound``."""
        ...

    async def download_url(self, key: str, *, expires: float) -> str | None:
        """A URL from which anybody can read the object for ``expires`` seconds, without asking
        whether it exists; None where the backend has no such thing, as a folder has not."""
        ...

    async def upload_url(self, key: str, *, expires: float) -> str | None:
        """A URL to which anybody can PUT the object for ``expires`` seconds; None as above.

        The media type is the ``Content-Type`` of whoever puts. Azure also wants the header
        ``x-ms-blob-type: BlockBlob``, which the others ignore.
        """
        ...

    async def delete_prefix(self, prefix: str) -> int:
        """Delete every object below ``prefix``; answers how many there were."""
        ...

    async def close(self) -> None: ...
