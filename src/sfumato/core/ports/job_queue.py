"""The doorbell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Ring:
    """The message in the queue: which job waits, and nothing of what it asks for."""

    job_id: str
    runtime: str
    attempt: int = 0
    priority: int = 0
    traceparent: str | None = None


class Delivery(Protocol):
    """A received ring, hidden from other receivers until its visibility ends."""

    @property
    def ring(self) -> Ring: ...

    @property
    def deliveries(self) -> int:
        """How often this ring has been received, this time included."""
        ...

    async def ack(self) -> None:
        """Done with it. Twice, or after the visibility ended, is harmless."""
        ...

    async def extend(self, seconds: float) -> bool:
        """Keep it hidden for ``seconds`` from now; False when it is no longer ours."""
        ...

    async def release(self, *, delay: float = 0.0) -> None:
        """Give it to whoever asks after ``delay`` seconds."""
        ...


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """Rings of one runtime: ``ready`` to be received, ``hidden`` (in flight or delayed)."""

    ready: int
    hidden: int


class JobQueue(Protocol):
    """A doorbell a runtime, at least once; by priority, then by age."""

    async def ring(self, ring: Ring, *, delay: float = 0.0) -> None:
        """Returns once the ring would survive a restart of the queue. A job has at most one ring
        where the backend can tell; elsewhere a second is harmless."""
        ...

    async def receive(
        self, runtimes: Sequence[str], *, visibility: float, timeout: float
    ) -> Delivery | None:
        """The next ring of any of the runtimes, hidden for ``visibility`` seconds; None after
        ``timeout`` seconds without one. ``timeout`` 0 looks once."""
        ...

    async def depth(self, runtime: str) -> QueueDepth: ...

    async def close(self) -> None: ...
