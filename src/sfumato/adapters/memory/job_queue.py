"""A doorbell within one process."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from sfumato.core.ports import MAX_DELIVERIES, Clock, QueueDepth, QueueTraits, Ring

#: Visible whatever the clock says.
_AT_ONCE = 0.0


@dataclass(slots=True)
class _Waiting:
    """A ring in the queue. ``receipt`` changes whenever it changes hands."""

    ring: Ring
    order: int
    visible_at: float
    receipt: int = 0
    deliveries: int = 0


class MemoryDelivery:
    """The ``Delivery`` port."""

    def __init__(self, queue: MemoryJobQueue, waiting: _Waiting) -> None:
        self._queue = queue
        self._receipt = waiting.receipt
        self.ring = waiting.ring
        self.deliveries = waiting.deliveries

    async def ack(self) -> None:
        self._queue.remove(self.ring.job_id, self._receipt)

    async def extend(self, seconds: float) -> bool:
        return self._queue.hide(self.ring.job_id, self._receipt, seconds)

    async def release(self, *, delay: float = 0.0) -> None:
        self._queue.release(self.ring.job_id, self._receipt, delay)


class MemoryJobQueue:
    """The ``JobQueue`` port; one ring a job."""

    traits = QueueTraits()

    def __init__(self, clock: Clock, *, max_deliveries: int = MAX_DELIVERIES) -> None:
        self._clock = clock
        self._max_deliveries = max_deliveries
        self._rings: dict[str, _Waiting] = {}
        self._numbers = itertools.count(1)
        self._changed = asyncio.Event()

    async def ring(self, ring: Ring, *, delay: float = 0.0) -> None:
        visible_at = self._clock.now() + delay if delay else _AT_ONCE
        known = self._rings.get(ring.job_id)
        order = known.order if known is not None else next(self._numbers)
        self._rings[ring.job_id] = _Waiting(ring, order, visible_at)
        self._wake()

    async def receive(
        self, runtimes: Sequence[str], *, visibility: float, timeout: float
    ) -> MemoryDelivery | None:
        deadline = self._clock.monotonic() + timeout
        while True:
            changed, delivery = self._changed, self._take(runtimes, visibility)
            left = deadline - self._clock.monotonic()
            if delivery is not None or left <= 0:
                return delivery
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, self._until_visible(runtimes))):
                    await changed.wait()

    async def depth(self, runtime: str) -> QueueDepth:
        now = self._clock.now()
        rings = [waiting for waiting in self._rings.values() if waiting.ring.runtime == runtime]
        hidden = sum(waiting.visible_at > now for waiting in rings)
        dead = sum(self._is_dead(waiting, now) for waiting in rings)
        return QueueDepth(ready=len(rings) - hidden - dead, hidden=hidden, dead=dead)

    async def redrive(self, runtime: str) -> int:
        now = self._clock.now()
        rings = [waiting for waiting in self._rings.values() if waiting.ring.runtime == runtime]
        dead = [waiting for waiting in rings if self._is_dead(waiting, now)]
        for waiting in dead:
            waiting.deliveries = 0
        self._wake()
        return len(dead)

    async def close(self) -> None:
        """Nothing is held open."""

    def remove(self, job_id: str, receipt: int) -> None:
        """Acknowledge by receipt; a stale receipt changes nothing."""
        waiting = self._rings.get(job_id)
        if waiting is not None and waiting.receipt == receipt:
            del self._rings[job_id]

    def hide(self, job_id: str, receipt: int, seconds: float) -> bool:
        """Hide a delivered ring for ``seconds`` from now; False for a stale receipt."""
        waiting = self._rings.get(job_id)
        if waiting is None or waiting.receipt != receipt:
            return False
        waiting.visible_at = self._clock.now() + seconds if seconds else _AT_ONCE
        self._wake()
        return True

    def release(self, job_id: str, receipt: int, delay: float) -> None:
        """Hide a delivered ring for ``delay`` seconds, and make its receipt stale."""
        if self.hide(job_id, receipt, delay):
            self._rings[job_id].receipt = next(self._numbers)

    def _take(self, runtimes: Sequence[str], visibility: float) -> MemoryDelivery | None:
        now = self._clock.now()
        ready = [
            waiting
            for waiting in self._rings.values()
            if waiting.ring.runtime in runtimes
            and waiting.visible_at <= now
            and not self._is_dead(waiting, now)
        ]
        if not ready:
            return None
        waiting = min(ready, key=lambda one: (-one.ring.priority, one.order))
        waiting.receipt = next(self._numbers)
        waiting.deliveries += 1
        waiting.visible_at = now + visibility
        return MemoryDelivery(self, waiting)

    def _is_dead(self, waiting: _Waiting, now: float) -> bool:
        return waiting.deliveries >= self._max_deliveries and waiting.visible_at <= now

    def _until_visible(self, runtimes: Sequence[str]) -> float:
        """Seconds until a hidden ring may be taken, at most a minute."""
        now = self._clock.now()
        hidden = (
            w.visible_at - now
            for w in self._rings.values()
            if w.ring.runtime in runtimes and not self._is_dead(w, now)
        )
        return max(0.001, min(hidden, default=60.0))

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
