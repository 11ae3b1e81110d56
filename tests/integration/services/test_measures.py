"""What is counted when attempts fail and workers vanish, and when the store does not answer."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sfumato.adapters.telemetry.measures import PrometheusMeasures
from sfumato.adapters.telemetry.stored import StoredSamples
from sfumato.core.charges import Price
from sfumato.core.errors import OutOfMemory, Unavailable
from sfumato.core.job import JobError, JobStatus
from sfumato.services.execution import Execution
from sfumato.services.placement import ScalingSignal
from sfumato.services.recovery import Recovery, RetryPolicy
from tests.support.parts import House, open_house


def value(measures: PrometheusMeasures, sample: str, **labels: str) -> float | None:
    text = measures.render("")[0].decode()
    for family in text_string_to_metric_families(text):
        for found in family.samples:
            if (found.name, found.labels) == (sample, labels):
                return float(found.value)
    return None


@pytest.fixture
def measures() -> PrometheusMeasures:
    return PrometheusMeasures()


def execution(house: House, measures: PrometheusMeasures) -> Execution:
    return Execution(
        worker="w1",
        runtimes=["default"],
        store=house.store,
        queue=house.queue,
        images=house.images,
        catalog=house.catalog,
        watcher=house.watcher,
        clock=house.clock,
        policy=RetryPolicy(max_failures=2, first_backoff=0.0),
        prices={"default": Price(36.0, "EUR")},
        measures=measures,
    )


async def test_attempts_are_counted_by_the_code_of_what_failed(
    measures: PrometheusMeasures,
) -> None:
    errors = [JobError.of(OutOfMemory("a secret castle")), JobError("made_up_by_a_worker", "x")]
    async with open_house() as house:
        work = execution(house, measures)
        job = await house.submit()
        for error in errors:
            assignment = await work.next(timeout=10)
            assert assignment is not None
            await work.fail(assignment, error, retryable=True, gpu_seconds=50.0)
        assert (await house.finished(job)).status is JobStatus.FAILED
    failures = "sfumato_attempt_failures_total"
    assert value(measures, failures, runtime="default", code="out_of_memory") == 1
    # Whatever code a worker elsewhere may tell, it makes no series of its own.
    assert value(measures, failures, runtime="default", code="other") == 1
    assert value(measures, "sfumato_jobs_ended_total", runtime="default", status="failed") == 1
    assert value(measures, "sfumato_gpu_seconds_total", runtime="default") == 100
    assert value(measures, "sfumato_cost_total", runtime="default", currency="EUR") == 1
    assert b"made_up" not in measures.render("")[0]


async def test_lost_workers_are_failures_of_their_own(measures: PrometheusMeasures) -> None:
    async with open_house() as house:
        work = execution(house, measures)
        recovery = Recovery(
            store=house.store,
            queue=house.queue,
            images=house.images,
            clock=house.clock,
            policy=RetryPolicy(max_losses=2),
            measures=measures,
        )
        job = await house.submit()
        for _ in range(2):
            assert await work.next(timeout=10) is not None
            await recovery.worker_gone("w1", reason="it was killed")
        assert (await house.finished(job)).status is JobStatus.FAILED
    failures = "sfumato_attempt_failures_total"
    assert value(measures, failures, runtime="default", code="worker_lost") == 2
    assert value(measures, "sfumato_jobs_ended_total", runtime="default", status="failed") == 1


async def test_a_store_that_is_away_leaves_a_gap(measures: PrometheusMeasures) -> None:
    away = True

    async def signal(_runtime: str) -> ScalingSignal:
        if away:
            raise Unavailable("The store is away.")
        return ScalingSignal(queued=3, running=1, desired=1, oldest_seconds=2.0)

    async def open_webhooks() -> int:
        return 5

    measures.watch(StoredSamples(signal, ["default"], open_webhooks, patience=10.0))
    # As a scrape comes: from another thread than the event loop's.
    assert await asyncio.to_thread(value, measures, "sfumato_store_up") == 0
    look = "sfumato_queue_jobs"
    assert await asyncio.to_thread(value, measures, look, runtime="default") is None
    away = False
    assert await asyncio.to_thread(value, measures, "sfumato_store_up") == 1
    assert await asyncio.to_thread(value, measures, look, runtime="default") == 3
    assert await asyncio.to_thread(value, measures, "sfumato_webhooks_open") == 5
