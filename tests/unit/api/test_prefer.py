"""RFC 7240's ``Prefer: wait=N``."""

from __future__ import annotations

import pytest

from sfumato.api.native import MAX_WAIT_SECONDS, preferred_wait


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ([], None),
        (["wait=10"], 10),
        (["respond-async, WAIT = 7"], 7),
        (['wait="5"; strict'], 5),
        (["respond-async", "wait=3"], 3),
        (["wait=0"], 0),
        (["wait=999999999999999999999"], MAX_WAIT_SECONDS),
        (["wait=1, wait=2"], 1),
        (["wait"], None),
        (["wait=-1"], None),
        (["wait=1.5"], None),
        (["wait=١"], None),
        (["handling=strict"], None),
    ],
)
def test_what_is_understood_counts_and_the_rest_is_left_out(
    prefer: list[str], seconds: int | None
) -> None:
    assert preferred_wait(prefer) == seconds
