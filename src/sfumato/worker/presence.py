"""Tells the registry of this worker: at its start, when a model was loaded, and every so often."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Sequence

from sfumato.core.errors import SfumatoError, Unavailable
from sfumato.core.ports import Clock, WorkerKind, WorkerRegistry, WorkerReport

log = logging.getLogger(__name__)


class Presence:
    """What is told of one worker.

    Attributes:
        device: what it draws with, in words; may be set while it runs.
    """

    def __init__(
        self,
        registry: WorkerRegistry,
        *,
        name: str,
        runtime: str,
        kind: WorkerKind,
        device: str,
        started_at: float,
        clock: Clock,
        interval: float = 10.0,
    ) -> None:
        self.device = device
        self._registry = registry
        self._name = name
        self._runtime = runtime
        self._kind = kind
        self._started_at = started_at
        self._clock = clock
        self._interval = interval
        self._models: tuple[str, ...] = ()
        self._news = asyncio.Event()

    def loaded(self, models: Sequence[str]) -> None:
        """The worker holds these models in memory now. Called on the event loop."""
        self._models = tuple(models)
        self._news.set()

    @contextlib.asynccontextmanager
    async def told(self, *, at_once: bool = True) -> AsyncIterator[None]:
        """Tell for as long as the block runs.

        Args:
            at_once: False: not before a model was loaded, or the first interval has passed.
        """
        telling = asyncio.create_task(self._tell(at_once=at_once), name="presence")
        try:
            yield
        finally:
            telling.cancel()
            await asyncio.wait((telling,))
            await self._try(self._registry.gone(self._name))

    async def _tell(self, *, at_once: bool) -> None:
        if not at_once:
            await self._wait()
        while True:
            self._news.clear()
            await self._try(self._registry.seen(self._report()))
            await self._wait()

    async def _wait(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._interval):
                await self._news.wait()

    async def _try(self, telling: Awaitable[None]) -> None:
        try:
            await telling
        except SfumatoError as error:  # no job depends on it
            level = logging.DEBUG if isinstance(error, Unavailable) else logging.WARNING
            log.log(level, "the registry was not told: %s", error)

    def _report(self) -> WorkerReport:
        return WorkerReport(
            name=self._name,
            runtime=self._runtime,
            kind=self._kind,
            device=self.device,
            models=self._models,
            started_at=self._started_at,
            seen_at=self._clock.now(),
        )
