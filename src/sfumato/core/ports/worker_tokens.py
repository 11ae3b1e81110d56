"""The keys with which workers elsewhere are let in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class WorkerToken:
    """What is kept of a token: never the token itself.

    Attributes:
        id: public; part of the names of the workers that use the token.
        digest: SHA-256 of the token, in hex.
        runtimes: the pools that its workers may work for.
        expires_at: None: never.
        used_at: when it was last used, to within some minutes.
    """

    id: str
    name: str
    digest: str = field(repr=False)
    runtimes: tuple[str, ...]
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    used_at: float | None = None


class WorkerTokens(Protocol):
    async def create(self, token: WorkerToken) -> None: ...

    async def keep(self, token: WorkerToken) -> None:
        """As :meth:`create`; where there is a token of that digest, a revoked one too, it is given
        these runtimes and otherwise left as it is."""
        ...

    async def find(self, digest: str) -> WorkerToken | None:
        """The token of that digest, also one that has expired or was revoked."""
        ...

    async def list(self) -> Sequence[WorkerToken]:
        """Every token, oldest first."""
        ...

    async def revoke(self, token_id: str, *, now: float) -> WorkerToken:
        """For good; the first time counts. Raises ``NotFound``."""
        ...

    async def note_use(self, token_id: str, *, now: float) -> None:
        """May be lost in a power cut."""
        ...
