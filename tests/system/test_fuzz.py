"""A short run of what ``make fuzz`` does for minutes, the same requests every time."""

from __future__ import annotations

import pytest

from tests.fuzz import run


@pytest.mark.timeout(600)  # hundreds of requests, of which some wait for a picture
def test_no_request_is_answered_by_a_defect() -> None:
    assert run(["--phases=examples,fuzzing", "--max-examples=3", "--seed=1"]) == 0
