"""The device's time in shares: nothing is lost, nothing is charged twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.core.ports import Assignment
from sfumato.worker.metering import DeviceMeter, Share, split
from sfumato.worker.run import JobRun
from tests.contract.jobs import new_job
from tests.support.parts import MODEL


def run_of_a_job() -> JobRun:
    return JobRun(Assignment(new_job(), MODEL), claimed_at=0.0)


@given(total=st.integers(0, 10**15), weights=st.lists(st.integers(1, 64), min_size=1, max_size=40))
def test_parts_are_like_their_weights_and_add_up(total: int, weights: list[int]) -> None:
    parts = split(total, weights)
    assert sum(parts) == total
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part - total * weight / sum(weights)) <= 1 + total * 1e-12


@given(
    st.lists(
        st.tuples(
            st.floats(0, 1e4), st.lists(st.tuples(st.integers(0, 4), st.integers(1, 8)), min_size=1)
        ),
        max_size=30,
    )
)
def test_what_the_jobs_have_is_what_the_device_did(
    blocks: list[tuple[float, list[tuple[int, int]]]],
) -> None:
    now = 1e6
    meter, runs = DeviceMeter(lambda: now), [run_of_a_job() for _ in range(5)]
    for seconds, members in blocks:
        with meter.charging([Share(runs[index], rows) for index, rows in members]):
            now += seconds
        now += 3.0  # nobody's
    assert sum(run.gpu_ns for run in runs) == meter.busy_ns
    assert meter.busy_ns / 1e9 == pytest.approx(sum(spent for spent, _ in blocks), abs=1e-6)


def test_rows_weigh_and_a_failure_costs_too() -> None:
    now = 0.0
    meter, guided, plain = DeviceMeter(lambda: now), run_of_a_job(), run_of_a_job()

    def fail() -> None:
        nonlocal now
        now = 3.0
        raise MemoryError

    with pytest.raises(MemoryError), meter.charging([Share(guided, 2), Share(plain, 1)]):
        fail()
    assert (guided.gpu_seconds, plain.gpu_seconds) == (2.0, 1.0)
