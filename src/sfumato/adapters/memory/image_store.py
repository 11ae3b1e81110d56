"""Pictures in a dictionary."""

from __future__ import annotations

from sfumato.core.errors import NotFound
from sfumato.core.ports import (
    StoredObject,
)


class MemoryImageStore:
    """The ``ImageStore`` port."""

    def __init__(self) -> None:
        self._objects: dict[str, StoredObject] = {}

    async def put(self, key: str, data: bytes, *, media_type: str) -> None:
        self._objects[key] = StoredObject(data, media_type)

    async def get(self, key: str) -> StoredObject:
        try:
            return self._objects[key]
        except KeyError:
            raise NotFound(f"There is no object {key!r}.") from None

    async def size(self, key: str) -> int:
        return len((await self.get(key)).data)

    async def download_url(self, key: str, *, expires: float) -> None:
        """Nobody outside this process can read its memory."""

    async def upload_url(self, key: str, *, expires: float) -> None:
        """Nobody outside this process can write its memory."""

    async def delete_prefix(self, prefix: str) -> int:
        keys = [key for key in self._objects if key.startswith(prefix)]
        for key in keys:
            del self._objects[key]
        return len(keys)

    async def close(self) -> None:
        """Nothing is held open."""
