"""Row limits after steps that did not fit into memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sfumato.worker.row_caps import RowCaps


def test_a_failure_halves_the_rows_of_its_own_key_alone() -> None:
    caps = RowCaps(lambda _key: 16)
    caps.failed("large", 12)
    assert (caps.limit("large"), caps.limit("small")) == (6, 16)
    caps.failed("large", 1)
    assert caps.limit("large") == 1


def test_the_engine_may_believe_in_less() -> None:
    believed = 16
    caps = RowCaps(lambda _key: believed)
    caps.failed("k", 16)
    believed = 4
    assert caps.limit("k") == 4


@given(fitting=st.integers(1, 40), steps=st.integers(200, 2000))
def test_it_finds_the_size_that_fits_with_few_failures(fitting: int, steps: int) -> None:
    caps = RowCaps(lambda _key: 64)
    failures = 0
    for _ in range(steps):
        rows = caps.limit("k")
        if rows > fitting:
            caps.failed("k", rows)
            failures += 1
        else:
            caps.succeeded("k", rows)
    assert failures <= 8 + steps // 300
    if steps >= 1500:
        assert 2 * caps.limit("k") + 2 >= fitting


def test_room_that_is_there_again_is_found() -> None:
    caps = RowCaps(lambda _key: 16)
    caps.failed("k", 16)
    for _ in range(5000):
        caps.succeeded("k", caps.limit("k"))
    assert caps.limit("k") == 16
    caps.failed("k", 16)
    for _ in range(100):
        caps.succeeded("k", 1)  # so few rows prove nothing
    assert caps.limit("k") == 8
