"""API keys, made and revoked by the operator beside the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from sfumato.bootstrap.parts import open_parts
from sfumato.core.keys import ApiKey, KeyLimits, Scope
from sfumato.core.webhooks import Webhook
from sfumato.services.access import Access
from sfumato.settings import Settings

_Result = TypeVar("_Result")


def create_key(
    settings: Settings,
    *,
    name: str,
    scopes: Iterable[Scope],
    expires_in: float | None,
    models: Iterable[str],
    runtimes: Iterable[str],
    limits: KeyLimits,
    webhook: Webhook | None = None,
) -> tuple[ApiKey, str]:
    """A new key and its secret, which is told this once. Raises ``InvalidRequest``."""
    return _with_access(
        settings,
        lambda access: access.create(
            name=name,
            scopes=scopes,
            expires_in=expires_in,
            models=models,
            runtimes=runtimes,
            limits=limits,
            webhook=webhook,
        ),
    )


def list_keys(settings: Settings) -> Sequence[ApiKey]:
    return _with_access(settings, lambda access: access.list())


def revoke_key(settings: Settings, key_id: str) -> ApiKey:
    """Raises ``NotFound``."""
    return _with_access(settings, lambda access: access.revoke(key_id))


def rotate_key(settings: Settings, key_id: str) -> tuple[ApiKey, str]:
    """The key with a new secret. Raises ``NotFound``."""
    return _with_access(settings, lambda access: access.rotate(key_id))


def _with_access(settings: Settings, do: Callable[[Access], Awaitable[_Result]]) -> _Result:
    async def run() -> _Result:
        settings.data.mkdir(parents=True, exist_ok=True)
        async with open_parts(settings) as parts:
            return await do(Access(keys=parts.keys, clock=parts.clock))

    return asyncio.run(run())
