"""The short chaos run; ``make chaos`` is the long one."""

from __future__ import annotations

import pytest

from scripts.servers import Missing
from tests.chaos.run import Order, run
from tests.chaos.setups import SETUPS

#: A server that is killed needs not be restarted too: to start one takes seconds.
ORDER = Order(jobs=40, workers=3, seed=7, choose=lambda fault: not fault.endswith(": restarted"))


@pytest.mark.parametrize("name", SETUPS)
async def test_whatever_breaks_no_job_is_lost_doubled_or_stuck(name: str) -> None:
    told: list[str] = []
    try:
        outcome = await run(name, ORDER, limit=110.0, tell=told.append)
    except Missing as reason:
        pytest.skip(str(reason))
    story = "\n".join([*told, *outcome.verdict.findings, *outcome.refused])
    assert outcome.clean, story
    assert outcome.verdict.jobs == ORDER.jobs
    assert outcome.faults.keys() >= {"worker: kill -9", "service: kill -9"}
