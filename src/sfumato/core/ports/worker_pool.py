"""Where workers come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """A worker process that ended. ``crashed``: neither idle nor told to stop."""

    worker: str
    runtime: str
    crashed: bool
    description: str


class WorkerPool(Protocol):
    """Where workers come from: processes of this machine, later pods of a cluster."""

    async def start(self, runtime: str) -> str:
        """Start one worker; answers its name. Returns at once, not when it is ready.

        Raises ``Unavailable``.
        """
        ...

    def running(self, runtime: str) -> Sequence[str]:
        """Names of the workers that have not ended."""
        ...

    async def ended(self) -> WorkerExit:
        """Waits for the next worker to end."""
        ...

    async def stop(self, *, grace: float) -> None:
        """Ask every worker to drain, wait ``grace`` seconds, end what is left."""
        ...
