"""What is counted and timed, for whoever watches over many jobs at once.

Nothing here names a job, a key or a prompt: every label has few values.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from sfumato.core.charges import Charge
from sfumato.core.job import JobStatus, Timings


class ColdPhase(StrEnum):
    """What a worker has to do before its first picture, in order."""

    PROCESS = "process"  #: from when it was asked for to when it claims
    ENGINE = "engine"  #: torch is imported, the device opened
    MODEL = "model"  #: the first model is brought into memory
    FIRST_STEP = "first_step"  #: the first step, which compiles and tunes


class Measures(Protocol):
    """Told of what happened, where it happened. Called from any thread, and never raises."""

    def requested(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """An HTTP request was answered. ``route``: the template of its path."""
        ...

    def submitted(self, runtime: str) -> None:
        """A job was made."""
        ...

    def attempt_failed(self, runtime: str, code: str) -> None:
        """An attempt has failed or was lost, whether or not the job goes on."""
        ...

    def ended(
        self,
        runtime: str,
        status: JobStatus,
        *,
        images: int = 0,
        timings: Timings | None = None,
    ) -> None:
        """A job has ended; ``timings`` where it was drawn."""
        ...

    def spent(self, runtime: str, charge: Charge) -> None:
        """What an attempt took, however it ended."""
        ...

    def cold_start(self, phase: ColdPhase, seconds: float) -> None:
        """A worker is through with a phase of its start; each is told once."""
        ...

    def stepped(self, *, slots: int, rows: int, row_limit: int, seconds: float) -> None:
        """A batch took a step: so many pictures, in rows of the rows that it may have."""
        ...


class NoMeasures:
    """The ``Measures`` port where nobody asks."""

    def requested(self, *, method: str, route: str, status: int, seconds: float) -> None:
        del method, route, status, seconds

    def submitted(self, runtime: str) -> None:
        del runtime

    def attempt_failed(self, runtime: str, code: str) -> None:
        del runtime, code

    def ended(
        self,
        runtime: str,
        status: JobStatus,
        *,
        images: int = 0,
        timings: Timings | None = None,
    ) -> None:
        del runtime, status, images, timings

    def spent(self, runtime: str, charge: Charge) -> None:
        del runtime, charge

    def cold_start(self, phase: ColdPhase, seconds: float) -> None:
        del phase, seconds

    def stepped(self, *, slots: int, rows: int, row_limit: int, seconds: float) -> None:
        del slots, rows, row_limit, seconds


NO_MEASURES = NoMeasures()
