"""The registry hears of a worker at its start and of the models it loads, and forgets it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sfumato.adapters.memory import MemoryWorkerRegistry
from sfumato.bootstrap.parts import SystemClock
from sfumato.core.errors import Unavailable
from sfumato.core.ports import WorkerKind, WorkerReport
from sfumato.worker.presence import Presence


class Listening(MemoryWorkerRegistry):
    """Tells of each report."""

    def __init__(self, *, failures: int = 0) -> None:
        super().__init__()
        self.heard: asyncio.Queue[WorkerReport] = asyncio.Queue()
        self._failures = failures

    async def seen(self, report: WorkerReport) -> None:
        self._failures -= 1
        if self._failures >= 0:
            raise Unavailable("away")
        await super().seen(report)
        self.heard.put_nowait(report)

    async def names(self) -> Sequence[str]:
        return [report.name for report in await self.list(since=0)]


def presence(registry: Listening, *, interval: float = 60.0) -> Presence:
    return Presence(
        registry,
        name="w1",
        runtime="default",
        kind=WorkerKind.LOCAL,
        device="cpu",
        started_at=1.0,
        clock=SystemClock(),
        interval=interval,
    )


async def test_it_is_told_at_the_start_at_each_model_and_no_more_at_the_end() -> None:
    registry = Listening()
    told = presence(registry)
    async with told.told():
        assert (await registry.heard.get()).models == ()
        told.device = "a GPU"
        told.loaded(["a"])
        second = await registry.heard.get()
        assert (second.device, second.models) == ("a GPU", ("a",))
    assert await registry.names() == []


async def test_a_registry_that_is_away_is_told_again() -> None:
    registry = Listening(failures=2)
    async with presence(registry, interval=0.01).told():
        assert (await registry.heard.get()).name == "w1"


async def test_who_stops_at_once_says_nothing() -> None:
    registry = Listening()
    async with presence(registry).told(at_once=False):
        await asyncio.sleep(0)
    assert registry.heard.empty()
