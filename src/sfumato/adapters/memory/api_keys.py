"""API keys in a dictionary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sfumato.core.errors import NotFound
from sfumato.core.keys import ApiKey


class MemoryApiKeys:
    """The ``ApiKeys`` port; forgets everything with its process."""

    def __init__(self) -> None:
        self._keys: dict[str, ApiKey] = {}

    async def create(self, key: ApiKey) -> None:
        self._keys[key.id] = key

    async def keep(self, key: ApiKey) -> None:
        if await self.find(key.digest) is None:
            await self.create(key)

    async def find(self, digest: str) -> ApiKey | None:
        return next((key for key in self._keys.values() if key.digest == digest), None)

    async def get(self, key_id: str) -> ApiKey:
        try:
            return self._keys[key_id]
        except KeyError:
            raise NotFound(f"There is no key {key_id!r}.") from None

    async def list(self) -> Sequence[ApiKey]:
        return sorted(self._keys.values(), key=lambda key: (key.created_at, key.id))

    async def revoke(self, key_id: str, *, now: float) -> ApiKey:
        key = await self.get(key_id)
        if key.revoked_at is None:
            key = self._keys[key_id] = replace(key, revoked_at=now)
        return key

    async def replace(self, key_id: str, *, digest: str) -> ApiKey:
        key = self._keys[key_id] = replace(await self.get(key_id), digest=digest)
        return key

    async def note_use(self, key_id: str, *, now: float) -> None:
        if key_id in self._keys:
            self._keys[key_id] = replace(self._keys[key_id], used_at=now)
