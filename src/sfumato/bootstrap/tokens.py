"""Worker tokens, made and revoked by the operator beside the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from sfumato.bootstrap.parts import open_parts
from sfumato.bootstrap.remote_service import open_access
from sfumato.core.ports import WorkerToken
from sfumato.services.worker_access import WorkerAccess
from sfumato.settings import Settings

_Result = TypeVar("_Result")


def create_token(
    settings: Settings, *, name: str, runtimes: Sequence[str], expires_in: float | None
) -> tuple[WorkerToken, str]:
    """A new token and its secret, which is told this once.

    Raises ``InvalidRequest`` or ``UnknownRuntime``.
    """
    return _with_access(
        settings,
        lambda access: access.create(name=name, runtimes=runtimes, expires_in=expires_in),
    )


def list_tokens(settings: Settings) -> Sequence[WorkerToken]:
    return _with_access(settings, lambda access: access.list())


def revoke_token(settings: Settings, token_id: str) -> WorkerToken:
    """Raises ``NotFound``."""
    return _with_access(settings, lambda access: access.revoke(token_id))


def _with_access(settings: Settings, do: Callable[[WorkerAccess], Awaitable[_Result]]) -> _Result:
    async def run() -> _Result:
        settings.data.mkdir(parents=True, exist_ok=True)
        async with open_parts(settings) as parts:
            return await do(open_access(parts))

    return asyncio.run(run())
