"""In which order jobs that wait are admitted to the batch."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from sfumato.worker.run import JobRun

#: Seconds for which jobs of loaded models may go before one whose model is not.
PATIENCE = 2.0


@dataclass(frozen=True, slots=True)
class _Waiting:
    run: JobRun
    since: float


class AdmissionOrder:
    """Jobs whose models are loaded first: to load another one makes all others wait.

    No job starves: once it has waited ``PATIENCE`` seconds nobody goes before it, whatever is
    loaded, so that room for its model is there when those in the batch have ended, at the latest.

    Args:
        clock: seconds that never jump.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._waiting: list[_Waiting] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, run: JobRun) -> None:
        self._waiting.append(_Waiting(run, self._clock()))

    def remove(self, run: JobRun) -> None:
        """Harmless when it does not wait."""
        self._waiting = [waiting for waiting in self._waiting if waiting.run is not run]

    def ready(self, loaded: Collection[str]) -> list[JobRun]:
        """Those that need no other model than these, the oldest first."""
        return [
            waiting.run
            for waiting in self._waiting
            if all(model.name in loaded for model in waiting.run.models)
        ]

    def next(self, loaded: Collection[str], *, idle: bool) -> JobRun | None:
        """Whom to admit now; None: nobody yet. It waits on until it is removed.

        Args:
            loaded: names of the models in memory.
            idle: whether the batch is empty.
        """
        if not self._waiting:
            return None
        oldest = self._waiting[0]
        if self._clock() - oldest.since >= PATIENCE:
            return oldest.run
        ready = self.ready(loaded)
        if ready:
            return ready[0]
        return oldest.run if idle else None
