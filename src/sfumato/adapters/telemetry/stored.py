"""What Prometheus is told from the job store: looked up when it asks, and not before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from sfumato.adapters.telemetry.measures import Sample
from sfumato.core.errors import SfumatoError


class QueueSignal(Protocol):
    """Open jobs of a runtime. ``oldest_seconds``: how long the oldest queued one has waited."""

    @property
    def queued(self) -> int: ...
    @property
    def running(self) -> int: ...
    @property
    def oldest_seconds(self) -> float: ...


class StoredSamples:
    """Called from a thread that is not the event loop's; made on the event loop.

    Where the store does not answer, that is told instead, and the rest is left out: a gap says
    more than an old number.

    Args:
        signal: of a runtime, by its name.
        open_webhooks: how many webhooks there are that were not told all there is.
        patience: seconds to wait for the store.
    """

    def __init__(
        self,
        signal: Callable[[str], Awaitable[QueueSignal]],
        runtimes: Sequence[str],
        open_webhooks: Callable[[], Awaitable[int]],
        *,
        patience: float,
    ) -> None:
        self._signal = signal
        self._runtimes = runtimes
        self._open_webhooks = open_webhooks
        self._patience = patience
        self._loop = asyncio.get_running_loop()

    def __call__(self) -> list[Sample]:
        looking = asyncio.run_coroutine_threadsafe(self._look(), self._loop)
        try:
            found = looking.result(self._patience)
        except (SfumatoError, TimeoutError):
            looking.cancel()
            found = []
        text = "Whether the job store answered this scrape."
        return [Sample("sfumato_store_up", text, float(bool(found)), {}), *found]

    async def _look(self) -> list[Sample]:
        samples = []
        for runtime in self._runtimes:
            signal, labels = await self._signal(runtime), {"runtime": runtime}
            samples += [
                Sample("sfumato_queue_jobs", "Jobs that wait.", signal.queued, labels),
                Sample(
                    "sfumato_queue_age_seconds",
                    "How long the oldest waiting job has waited.",
                    signal.oldest_seconds,
                    labels,
                ),
                Sample("sfumato_jobs_running", "Jobs under way.", signal.running, labels),
            ]
        text = "Webhooks that were not told all there is yet."
        return [*samples, Sample("sfumato_webhooks_open", text, await self._open_webhooks(), {})]
