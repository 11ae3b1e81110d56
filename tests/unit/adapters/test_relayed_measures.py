"""What a worker measures reaches its service over a real pipe, and never holds a picture up."""

from __future__ import annotations

import os
from typing import Any

from sfumato.adapters.telemetry.relayed import RelayedMeasures, relay
from sfumato.core.charges import Charge
from sfumato.core.job import JobStatus, Timings
from sfumato.core.ports import ColdPhase, Measures


class Recorded:
    """Every call of a ``Measures``."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *given, **named: self.calls.append((name, given, named))


def tell_everything(measures: Measures) -> None:
    measures.cold_start(ColdPhase.MODEL, 1.5)
    measures.stepped(slots=2, rows=3, row_limit=8, seconds=0.25)
    measures.spent("default", Charge(0.5, 0.25, "EUR"))
    measures.attempt_failed("default", "out_of_memory")
    measures.ended("default", JobStatus.CANCELED)
    measures.ended("default", JobStatus.SUCCEEDED, images=2, timings=Timings(1, 2, 3, 4, 5))


def test_every_call_is_made_again_with_the_same_values() -> None:
    reading, writing = os.pipe()
    tell_everything(RelayedMeasures(writing))
    os.close(writing)
    heard: Any = Recorded()
    with os.fdopen(reading, "rb") as lines:
        for line in lines:
            relay(line, heard)
    wanted: Any = Recorded()
    tell_everything(wanted)
    # Whether by name or by place is the callee's; a default is told, too.
    assert [(name, *given, *named.values()) for name, given, named in heard.calls] == [
        (name, *given, *named.values()) if name != "ended" or named else (name, *given, 0, None)
        for name, given, named in wanted.calls
    ]


def test_a_full_pipe_and_a_service_that_is_gone_cost_a_number_and_nothing_else() -> None:
    reading, writing = os.pipe()
    measures = RelayedMeasures(writing)
    for _ in range(10_000):
        measures.stepped(slots=1, rows=1, row_limit=1, seconds=0.1)
    os.close(reading)
    tell_everything(measures)
    os.close(writing)
