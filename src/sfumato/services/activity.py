"""Tells autoscalers of work the moment it comes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator

from sfumato.core.errors import Unavailable
from sfumato.core.ports import JobStore
from sfumato.services.placement import Scaling
from sfumato.services.watching import JobWatcher

log = logging.getLogger(__name__)

#: Seconds between two looks at a runtime that is at work: that it ended is no hurry.
_WHILE_ACTIVE = 0.5
_AFTER_OUTAGE = 1.0


class RuntimeActivity:
    """The ``ScalingSignals`` port, woken by the job store's own changes.

    Args:
        while_active: seconds between two looks at a runtime that has work.
    """

    def __init__(
        self,
        *,
        scaling: Scaling,
        store: JobStore,
        watcher: JobWatcher,
        while_active: float = _WHILE_ACTIVE,
    ) -> None:
        self._scaling = scaling
        self._store = store
        self._watcher = watcher
        self._while_active = while_active

    async def open(self, runtime: str) -> int:
        return (await self._scaling.of(runtime)).open

    async def activity(self, runtime: str) -> AsyncGenerator[bool, None]:
        self._scaling.check(runtime)
        told: bool | None = None
        with self._watcher.subscribe_all() as changed:
            while True:
                changed.clear()
                try:
                    # Counted anew: what was counted before the change does not know of it.
                    counts = await self._store.counts(runtime)
                except Unavailable as error:
                    log.warning("%s: whether it has work is asked again: %s", runtime, error)
                    await asyncio.sleep(_AFTER_OUTAGE)
                    continue
                active = counts.queued + counts.running > 0
                if active != told:
                    told = active
                    yield active
                await changed.wait()
                if active:
                    await asyncio.sleep(self._while_active)
