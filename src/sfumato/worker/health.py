"""What probes ask of a worker: whether it has started, can take work, is alive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

#: Seconds after which an event loop that has not run is taken for stuck.
LOOP_STUCK_AFTER = 60.0


@dataclass(frozen=True, slots=True)
class Finding:
    """An answer to a probe: in words, and whether they are good ones."""

    text: str
    ok: bool


class Pulse:
    """Since when a thread has been at the same piece of work; read by other threads.

    A step takes as long as it takes, and one that waits for work does nothing at all: neither is a
    sign of death. The same piece of work for far longer than any takes is one.

    Args:
        clock: seconds that never jump.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: float | None = None

    def beat(self) -> None:
        """Another piece of work begins."""
        self._since = self._clock()

    def rest(self) -> None:
        """There is nothing to do."""
        self._since = None

    @property
    def busy_for(self) -> float:
        """Seconds since the last beat; 0 while it rests."""
        since = self._since
        return 0.0 if since is None else max(0.0, self._clock() - since)


class EngineHealth:
    """Told by the engine's thread of itself.

    Attributes:
        asked_for: the engine is being made, or was.
        opened: it answers.
        broken: the thread is gone, and was not told to stop.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.pulse = Pulse(clock)
        self.asked_for = False
        self.opened = False
        self.broken = False


class Health:
    """The state that the three probes read, from whatever thread.

    Args:
        clock: seconds that never jump.
        once: of a worker for one job.
        stuck_after: seconds at one step, one load or one picture after which the engine's thread is
            taken for stuck.

    Attributes:
        draining: it claims no more.
        away: why no work can be had; None: it can.
        jobs: how many it holds.
        models: those in memory.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        once: bool = False,
        stuck_after: float = 600.0,
        loop_stuck_after: float = LOOP_STUCK_AFTER,
    ) -> None:
        self.engine = EngineHealth(clock)
        self.draining = False
        self.away: str | None = None
        self.jobs = 0
        self.models: Sequence[str] = ()
        self._loop = Pulse(clock)
        self._loop.beat()
        self._once = once
        self._stuck_after = stuck_after
        self._loop_stuck_after = loop_stuck_after

    async def keep_beating(self, *, interval: float = 1.0) -> None:
        """Show that the event loop runs, until cancelled."""
        while True:
            self._loop.beat()
            await asyncio.sleep(interval)

    def startup(self) -> Finding:
        """Well once the engine answers. A worker for one job makes none before it has claimed."""
        if self.engine.opened:
            return Finding("the engine answers", ok=True)
        if self._once and not self.engine.asked_for:
            return Finding("the engine is made once a job is claimed", ok=True)
        return Finding("the engine is being opened", ok=False)

    def readiness(self) -> Finding:
        """Well while work can be had, and the model of the first job that it holds is in memory.

        A worker for one job is ready from its claim on: KEDA counts it as pending until then, and
        from then on its message is no longer counted as waiting.
        """
        if self.draining:
            return Finding("draining: it takes no more work", ok=False)
        if self._once:
            return Finding("a job is claimed", ok=True) if self.jobs else _CLAIMING
        if not self.engine.opened:
            return Finding("the engine is being opened", ok=False)
        if self.away is not None:
            return Finding(f"no work can be had: {self.away}", ok=False)
        if self.jobs and not self.models:
            return Finding("the first model is being loaded", ok=False)
        return Finding("takes work", ok=True)

    def liveness(self) -> Finding:
        """Well while the event loop runs and the engine's thread gets on.

        What the GPU does plays no part: it is idle without work, and busy when a kernel hangs.
        """
        if self._loop.busy_for > self._loop_stuck_after:
            return Finding(f"the event loop has not run for {self._loop.busy_for:.0f} s", ok=False)
        if self.engine.broken:
            return Finding("the engine's thread is gone", ok=False)
        busy = self.engine.pulse.busy_for
        if busy > self._stuck_after:
            return Finding(f"the engine has been at one piece of work for {busy:.0f} s", ok=False)
        return Finding(f"the event loop runs; the engine's last sign was {busy:.0f} s ago", ok=True)


_CLAIMING = Finding("no job is claimed yet", ok=False)
