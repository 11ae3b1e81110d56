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
    """Rings of one runtime: ``ready`` to be received, ``hidden`` (in flight or delayed), and
    ``dead`` (set aside, see :meth:`JobQueue.redrive`)."""

    ready: int
    hidden: int
    dead: int = 0


@dataclass(frozen=True, slots=True)
class QueueTraits:
    """In what the backends behind :class:`JobQueue` differ. Nothing may depend on more than this.

    Attributes:
        priorities: rings come by priority, then by age; else by age alone.
        single: a job has at most one ring, and rung again it replaces the former; else a second
            ring is another message, and harmless.
        longest_delay: seconds that a ring can be delayed at most; a longer delay is cut to it.
    """

    priorities: bool = True
    single: bool = True
    longest_delay: float = float("inf")


#: Times that a ring may be received without being acknowledged before it is set aside: well above
#: what the loss of workers makes, so that it means a ring nobody can handle.
MAX_DELIVERIES = 20


class JobQueue(Protocol):
    """A doorbell a runtime, at least once; by priority, then by age, as far as ``traits`` go.

    Raises ``Unavailable`` while the backend does not answer; it reconnects by itself.
    """

    @property
    def traits(self) -> QueueTraits: ...

    async def ring(self, ring: Ring, *, delay: float = 0.0) -> None:
        """Returns once the ring would survive a restart of the queue."""
        ...

    async def receive(
        self, runtimes: Sequence[str], *, visibility: float, timeout: float
    ) -> Delivery | None:
        """The next ring of any of the runtimes, hidden for ``visibility`` seconds; None after
        ``timeout`` seconds without one. ``timeout`` 0 looks once."""
        ...

    async def depth(self, runtime: str) -> QueueDepth: ...

    async def redrive(self, runtime: str) -> int:
        """Make the rings that were set aside ready again; answers how many there were.

        Set aside is a ring that was received ``MAX_DELIVERIES`` times without being acknowledged,
        and a message that is no ring at all. The latter stays where it is.
        """
        ...

    async def close(self) -> None: ...
