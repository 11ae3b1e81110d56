"""What an autoscaler is told."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol


class ScalingSignals(Protocol):
    """The open jobs of each runtime: those that wait and those that run. Its methods raise
    ``NotFound`` for an unknown runtime."""

    async def open(self, runtime: str) -> int:
        """How many there are. Raises ``Unavailable``, too."""
        ...

    def activity(self, runtime: str) -> AsyncGenerator[bool, None]:
        """Whether there are any: first as it is now, then each time that it changes. That the first
        one came is told at once; that the last one ended, within a second. An outage of the store
        is waited out."""
        ...
