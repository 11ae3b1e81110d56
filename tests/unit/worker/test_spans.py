"""The spans of an attempt: one a stage, whatever the number of steps and pictures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from sfumato.adapters.telemetry.traces import OtelTraces
from sfumato.core.ports import NO_TRACES
from sfumato.worker.spans import AttemptSpans
from tests.contract.jobs import new_job


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def traces(exporter: InMemorySpanExporter) -> Iterator[OtelTraces]:
    traces = OtelTraces(service="tested", version="1", exporter=exporter)
    yield traces
    traces.close()


def denoised(traces: OtelTraces, exporter: InMemorySpanExporter) -> list[ReadableSpan]:
    traces.close()
    return [span for span in exporter.get_finished_spans() if span.name == "denoise"]


def test_each_stage_is_one_span_with_its_steps(
    traces: OtelTraces, exporter: InMemorySpanExporter
) -> None:
    spans = AttemptSpans(new_job(1.0), traces)
    moment = 10.0
    # Two pictures of a hires fix: three small steps and two large ones each, the second one later.
    for image, key in [(0, "small"), (0, "small"), (1, "small"), (0, "small"), (0, "large")]:
        spans.stepped(image, key, steps=1, began=moment, ended=moment + 1)
        moment += 1
    for image, key in [(1, "small"), (1, "small"), (0, "large"), (1, "large"), (1, "large")]:
        spans.stepped(image, key, steps=1, began=moment, ended=moment + 1)
        moment += 1
    spans.denoised()
    spans.denoised()  # leaving a batch twice tells nothing twice
    first, second = denoised(traces, exporter)
    told = [span.attributes or {} for span in (first, second)]
    assert [each["sfumato.stage"] for each in told] == [0, 1]
    assert [each["sfumato.steps"] for each in told] == [6, 4]
    assert [each["sfumato.images"] for each in told] == [2, 2]
    assert (first.start_time, first.end_time) == (10 * 10**9, 17 * 10**9)
    assert (second.start_time, second.end_time) == (14 * 10**9, 20 * 10**9)


def test_steps_that_are_taken_back_do_not_count(
    traces: OtelTraces, exporter: InMemorySpanExporter
) -> None:
    """A retry in another precision is a stage of its own."""
    spans = AttemptSpans(new_job(1.0), traces)
    for steps, key in [(1, "half"), (1, "half"), (-1, "half"), (1, "single"), (1, "single")]:
        spans.stepped(0, key, steps=steps, began=1.0, ended=2.0)
    spans.denoised()
    told = [span.attributes or {} for span in denoised(traces, exporter)]
    assert [each["sfumato.steps"] for each in told] == [1, 2]


def test_without_traces_there_is_nothing_but_the_jobs_own_context() -> None:
    spans = AttemptSpans(new_job(1.0), NO_TRACES)
    assert (spans.wanted, spans.traceparent, spans.part("load").traceparent) == (False, None, None)
    assert list(spans.log_fields) == ["job"]
