"""Jobs of loaded models go first, and no job waits for ever."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sfumato.worker.admission import PATIENCE, AdmissionOrder
from tests.support.slots import HandClock


def run_of(*models: str) -> Any:
    return SimpleNamespace(models=[SimpleNamespace(name=model) for model in models])


def test_the_first_to_come_is_admitted_at_once_when_idle() -> None:
    order = AdmissionOrder(HandClock())
    assert order.next([], idle=True) is None
    first, second = run_of("a"), run_of("b")
    order.add(first)
    order.add(second)
    assert order.next([], idle=True) is first
    order.remove(first)
    order.remove(first)
    assert order.next([], idle=True) is second
    assert len(order) == 1


def test_a_job_of_a_loaded_model_passes_one_that_waits_for_its_own() -> None:
    clock = HandClock()
    order = AdmissionOrder(clock)
    waiting, passing = run_of("b"), run_of("a")
    order.add(waiting)
    assert order.next(["a"], idle=False) is None
    order.add(passing)
    assert order.next(["a"], idle=False) is passing
    clock.now += PATIENCE
    assert order.next(["a"], idle=False) is waiting


def test_a_job_is_of_a_loaded_model_when_its_refiner_is_loaded_too() -> None:
    order = AdmissionOrder(HandClock())
    order.add(refined := run_of("a", "b"))
    order.add(plain := run_of("a"))
    assert order.next(["a"], idle=False) is plain
    assert order.next(["a", "b"], idle=False) is refined


@given(gaps=st.lists(st.floats(0.01, 0.5), min_size=100, max_size=100))
def test_a_stream_of_others_holds_a_job_up_no_longer_than_the_patience(gaps: list[float]) -> None:
    clock = HandClock()
    order = AdmissionOrder(clock)
    order.add(waiting := run_of("b"))
    began = clock.now
    for gap in gaps:
        order.add(run_of("a"))
        chosen = order.next(["a"], idle=False)
        if chosen is waiting:
            break
        assert clock.now - began < PATIENCE
        order.remove(chosen)
        clock.now += gap
    else:
        assert clock.now - began < PATIENCE
