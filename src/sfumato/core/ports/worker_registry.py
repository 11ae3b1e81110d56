"""Which workers there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

#: Seconds after which a worker that was not heard of is forgotten.
FORGOTTEN_AFTER = 86_400.0


class WorkerKind(StrEnum):
    LOCAL = "local"  #: beside the store
    REMOTE = "remote"  #: over HTTPS


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What a worker tells of itself. Times are seconds since the epoch, UTC.

    Attributes:
        device: what it draws with, in words.
        models: the models that it holds in memory.
    """

    name: str
    runtime: str
    kind: WorkerKind
    device: str
    models: tuple[str, ...]
    started_at: float
    seen_at: float


class WorkerRegistry(Protocol):
    """Who was heard of lately. For people and for placement; no job depends on it, and a power
    cut may take its latest entries."""

    async def seen(self, report: WorkerReport) -> None:
        """Keep a worker's latest report in place of the one before, and forget the workers that
        were not heard of for ``FORGOTTEN_AFTER`` seconds before it."""
        ...

    async def gone(self, name: str) -> None:
        """It has ended. Harmless for one that is not known."""
        ...

    async def list(self, *, since: float) -> Sequence[WorkerReport]:
        """The workers that were heard of at ``since`` or later, by name."""
        ...
