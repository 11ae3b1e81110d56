"""What each probe says of each state of a worker."""

from __future__ import annotations

import asyncio

import pytest

from sfumato.worker.health import Health


class Watch:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def watch() -> Watch:
    return Watch()


def opened(watch: Watch, *, once: bool = False) -> Health:
    health = Health(watch, once=once, stuck_after=50, loop_stuck_after=1000)
    health.engine.asked_for = health.engine.opened = True
    return health


def test_it_has_started_once_the_engine_answers(watch: Watch) -> None:
    health = Health(watch)
    assert not health.startup().ok
    assert not health.readiness().ok
    assert health.liveness().ok
    health.engine.asked_for = health.engine.opened = True
    assert health.startup().ok
    assert health.readiness().ok


def test_for_one_job_it_has_started_before_there_is_an_engine(watch: Watch) -> None:
    health = Health(watch, once=True)
    assert health.startup().ok
    assert not health.readiness().ok
    health.jobs = 1
    health.engine.asked_for = True
    assert not health.startup().ok
    assert health.readiness().ok


def test_it_is_not_ready_while_the_first_model_is_loaded(watch: Watch) -> None:
    health = opened(watch)
    health.jobs = 1
    assert "model" in health.readiness().text
    health.models = ["starter"]
    assert health.readiness().ok


def test_it_is_not_ready_while_no_work_can_be_had(watch: Watch) -> None:
    health = opened(watch)
    health.away = "The service does not answer."
    assert health.readiness().text.endswith("The service does not answer.")
    assert health.liveness().ok
    health.away = None
    assert health.readiness().ok


@pytest.mark.parametrize("once", [False, True])
def test_it_is_not_ready_while_it_drains(watch: Watch, *, once: bool) -> None:
    health = opened(watch, once=once)
    health.jobs, health.models, health.draining = 1, ["starter"], True
    assert "draining" in health.readiness().text
    assert health.liveness().ok


def test_a_long_step_is_not_death_and_a_stuck_one_is(watch: Watch) -> None:
    health = opened(watch)
    health.engine.pulse.beat()
    watch.seconds += 49
    assert health.liveness().ok
    watch.seconds += 2
    assert "51 s" in health.liveness().text
    assert not health.liveness().ok
    health.engine.pulse.beat()
    assert health.liveness().ok


def test_a_thread_that_waits_for_work_is_not_stuck(watch: Watch) -> None:
    health = opened(watch)
    health.engine.pulse.beat()
    health.engine.pulse.rest()
    watch.seconds += 900
    assert health.liveness().ok


def test_a_thread_that_is_gone_is_death(watch: Watch) -> None:
    health = opened(watch)
    health.engine.broken = True
    assert not health.liveness().ok


async def test_an_event_loop_that_does_not_run_is_death(watch: Watch) -> None:
    health = Health(watch, loop_stuck_after=5)
    beating = asyncio.create_task(health.keep_beating(interval=0))
    await asyncio.sleep(0)
    watch.seconds += 6  # nothing was awaited in that time
    assert not health.liveness().ok
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert health.liveness().ok
    beating.cancel()
