"""A start that waits for servers which start beside it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from sfumato.bootstrap.parts import Parts, open_parts
from sfumato.core.errors import SchemaTooNew, StartupRefused
from sfumato.settings import Settings

log = logging.getLogger(__name__)

#: Seconds between two tries.
_PAUSE = 1.0

_Result = TypeVar("_Result")


@contextlib.asynccontextmanager
async def open_parts_patiently(settings: Settings, **given: Any) -> AsyncIterator[Parts]:
    """As :func:`~sfumato.bootstrap.parts.open_parts`, tried again for ``start_timeout`` seconds."""
    async with contextlib.AsyncExitStack() as stack:
        yield await patiently(
            settings, lambda: stack.enter_async_context(open_parts(settings, **given))
        )


async def patiently(settings: Settings, start: Callable[[], Awaitable[_Result]]) -> _Result:
    """Call until it is not refused, or the settings' ``start_timeout`` is over.

    Raises ``StartupRefused``: the last refusal.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + settings.start_timeout
    while True:
        try:
            return await start()
        except SchemaTooNew:
            raise
        except StartupRefused as error:
            if loop.time() >= end:
                raise
            log.warning("the start is tried again: %s", error)
        await asyncio.sleep(_PAUSE)
