"""Workers and their tokens in dictionaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sfumato.core.errors import NotFound
from sfumato.core.ports import FORGOTTEN_AFTER, WorkerReport, WorkerToken


class MemoryWorkerTokens:
    """The ``WorkerTokens`` port."""

    def __init__(self) -> None:
        self._tokens: dict[str, WorkerToken] = {}

    async def create(self, token: WorkerToken) -> None:
        self._tokens[token.id] = token

    async def keep(self, token: WorkerToken) -> None:
        known = await self.find(token.digest)
        await self.create(token if known is None else replace(known, runtimes=token.runtimes))

    async def find(self, digest: str) -> WorkerToken | None:
        return next((token for token in self._tokens.values() if token.digest == digest), None)

    async def list(self) -> Sequence[WorkerToken]:
        return sorted(self._tokens.values(), key=lambda token: (token.created_at, token.id))

    async def revoke(self, token_id: str, *, now: float) -> WorkerToken:
        token = self._tokens.get(token_id)
        if token is None:
            raise NotFound(f"There is no token {token_id!r}.")
        if token.revoked_at is None:
            token = self._tokens[token_id] = replace(token, revoked_at=now)
        return token

    async def note_use(self, token_id: str, *, now: float) -> None:
        if token_id in self._tokens:
            self._tokens[token_id] = replace(self._tokens[token_id], used_at=now)


class MemoryWorkerRegistry:
    """The ``WorkerRegistry`` port."""

    def __init__(self) -> None:
        self._reports: dict[str, WorkerReport] = {}

    async def seen(self, report: WorkerReport) -> None:
        self._reports[report.name] = report
        for name, other in list(self._reports.items()):
            if other.seen_at < report.seen_at - FORGOTTEN_AFTER:
                del self._reports[name]

    async def gone(self, name: str) -> None:
        self._reports.pop(name, None)

    async def list(self, *, since: float) -> Sequence[WorkerReport]:
        lately = [report for report in self._reports.values() if report.seen_at >= since]
        return sorted(lately, key=lambda report: report.name)
