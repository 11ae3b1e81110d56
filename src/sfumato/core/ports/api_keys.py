"""The keys with which callers are let in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sfumato.core.keys import ApiKey


class ApiKeys(Protocol):
    async def create(self, key: ApiKey) -> None: ...

    async def keep(self, key: ApiKey) -> None:
        """As :meth:`create`; but nothing where there is a key of that digest, a revoked one too."""
        ...

    async def find(self, digest: str) -> ApiKey | None:
        """The key of that digest, also one that has expired or was revoked."""
        ...

    async def get(self, key_id: str) -> ApiKey:
        """Raises ``NotFound``."""
        ...

    async def list(self) -> Sequence[ApiKey]:
        """Every key, oldest first."""
        ...

    async def revoke(self, key_id: str, *, now: float) -> ApiKey:
        """For good; the first time counts. Raises ``NotFound``."""
        ...

    async def replace(self, key_id: str, *, digest: str) -> ApiKey:
        """Give a key another digest: the old secret is good no more. Raises ``NotFound``."""
        ...

    async def note_use(self, key_id: str, *, now: float) -> None:
        """May be lost in a power cut."""
        ...
