"""What a worker's process measures, told to the service that has started it.

Nobody scrapes a worker that comes and goes with the jobs of its service: it writes a line of JSON for
each call of its ``Measures`` to a pipe, and the service makes the same call of its own.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import asdict
from typing import Any

import orjson

from sfumato.core.charges import Charge
from sfumato.core.job import JobStatus, Timings
from sfumato.core.ports import ColdPhase, Measures
from sfumato.core.ports.measures import NoMeasures


class RelayedMeasures(NoMeasures):
    """The ``Measures`` port of a worker.

    Args:
        descriptor: the writing end of the pipe. A line that does not fit into it is dropped: no
            picture waits for a number.
    """

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor

    def attempt_failed(self, runtime: str, code: str) -> None:
        self._tell("attempt_failed", runtime=runtime, code=code)

    def ended(
        self,
        runtime: str,
        status: JobStatus,
        *,
        images: int = 0,
        timings: Timings | None = None,
    ) -> None:
        told = None if timings is None else asdict(timings)
        self._tell("ended", runtime=runtime, status=status.value, images=images, timings=told)

    def spent(self, runtime: str, charge: Charge) -> None:
        self._tell("spent", runtime=runtime, charge=asdict(charge))

    def cold_start(self, phase: ColdPhase, seconds: float) -> None:
        self._tell("cold_start", phase=phase.value, seconds=seconds)

    def stepped(self, *, slots: int, rows: int, row_limit: int, seconds: float) -> None:
        self._tell("stepped", slots=slots, rows=rows, row_limit=row_limit, seconds=seconds)

    def _tell(self, call: str, **values: Any) -> None:
        # So short a line goes into the pipe whole or not at all, from any thread.
        with contextlib.suppress(OSError):
            os.write(self._descriptor, orjson.dumps({"call": call, **values}) + b"\n")


def relay(line: bytes, measures: Measures) -> None:
    """Make the call that a line of :class:`RelayedMeasures` tells of."""
    values = orjson.loads(line)
    match values.pop("call"):
        case "attempt_failed":
            measures.attempt_failed(**values)
        case "ended":
            told = values["timings"]
            measures.ended(
                values["runtime"],
                JobStatus(values["status"]),
                images=values["images"],
                timings=None if told is None else Timings(**told),
            )
        case "spent":
            measures.spent(values["runtime"], Charge(**values["charge"]))
        case "cold_start":
            measures.cold_start(ColdPhase(values["phase"]), values["seconds"])
        case "stepped":
            measures.stepped(**values)
