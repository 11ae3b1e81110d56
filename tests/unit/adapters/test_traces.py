"""OpenTelemetry's SDK behind the ``Traces`` port."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from sfumato.adapters.telemetry.traces import OtelTraces
from sfumato.core.current import read_traceparent, trace_id_of
from sfumato.core.errors import OutOfMemory
from sfumato.core.ports import NO_TRACES, SpanKind, Traces

TRACE, PARENT = "5759e988bd862e3fe1be46a994272793", "53995c3f42cd8ad8"
ROOT = f"1-{TRACE[:8]}-{TRACE[8:]}"
GOOD = f"00-{TRACE}-{PARENT}-01"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def traces(exporter: InMemorySpanExporter) -> Iterator[OtelTraces]:
    traces = OtelTraces(service="tested", version="1", exporter=exporter)
    yield traces
    traces.close()


@pytest.fixture
def xray(exporter: InMemorySpanExporter) -> Iterator[OtelTraces]:
    traces = OtelTraces.for_xray(service="tested", version="1", exporter=exporter)
    yield traces
    traces.close()


def told(traces: OtelTraces, exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    traces.close()
    return {span.name: span for span in exporter.get_finished_spans()}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (f"Root={ROOT};Parent={PARENT};Sampled=1", GOOD),
        (f"Root={ROOT};Parent={PARENT};Sampled=0", GOOD[:-1] + "0"),
        (f"Sampled=1; Parent={PARENT} ;Root={ROOT}", GOOD),
        (f"Root={ROOT};Parent={PARENT};Sampled=1;Lineage=a87bd80c:1", GOOD),
        (f"Self=1-67891234-12456789abcdef012345678;Root={ROOT};Parent={PARENT};Sampled=1", GOOD),
        (None, None),
        ("", None),
        ("Root", None),
        (";;;=", None),
        ("Root=1-é-ü;Parent=ä;Sampled=ß", None),
        (f"Root={ROOT};Parent={PARENT};Sampled=?", None),
        (f"Root={ROOT};Parent=xyz;Sampled=1", None),
        (f"Root={ROOT};Parent={'z' * 16};Sampled=1", None),
        (f"Root=1-{'0' * 8}-{'0' * 24};Parent={PARENT};Sampled=1", None),
        (f"Root={ROOT};Sampled=1", None),
        (f"Parent={PARENT};Sampled=1", None),
        ("Root=" + "1" * 100_000, None),
    ],
)
def test_xrays_header_is_read_where_it_can_be(
    xray: OtelTraces, header: str | None, expected: str | None
) -> None:
    headers = {} if header is None else {"x-amzn-trace-id": header}
    assert xray.read(headers) == expected
    # Whatever it is, the job is traced; it begins a trace where there is none to go on with.
    with xray.span("submit", parent=xray.read(headers)) as span:
        assert span.traceparent is not None
        assert (trace_id_of(span.traceparent) == TRACE) is (expected is not None)
    # What travels among our own processes counts where X-Ray's says nothing.
    other = f"00-{'a' * 32}-{'b' * 16}-01"
    assert xray.read({**headers, "traceparent": other}) == (expected or other)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (GOOD, GOOD),
        (None, None),
        ("", None),
        (GOOD.upper(), None),
        (GOOD + "-x", None),
        (f"ff-{TRACE}-{PARENT}-01", None),
        (f"00-{'0' * 32}-{PARENT}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE}-{PARENT}", None),
        ("00-é-ü-01", None),
    ],
)
def test_the_w3cs_header_is_read_with_or_without_the_sdk(
    traces: OtelTraces, header: str | None, expected: str | None
) -> None:
    headers = {} if header is None else {"traceparent": header}
    readers: list[Traces] = [traces, NO_TRACES]
    assert [reader.read(headers) for reader in readers] == [expected, expected]
    assert read_traceparent(header) == expected


def test_a_span_goes_on_where_its_parent_is(
    traces: OtelTraces, exporter: InMemorySpanExporter
) -> None:
    attributes = {"sfumato.job": "j"}
    outer = traces.span("outer", parent=GOOD, kind=SpanKind.SERVER, attributes=attributes)
    inner = traces.span("inner", parent=outer.traceparent, at=100.0)
    inner.end(at=101.5)
    inner.end(at=200.0)
    outer.rename("better")
    outer.end()
    spans = told(traces, exporter)
    assert spans["better"].parent is not None
    assert f"{spans['better'].parent.span_id:016x}" == PARENT
    assert spans["better"].attributes == attributes
    parent = spans["inner"].parent
    assert parent is not None
    assert outer.traceparent == f"00-{parent.trace_id:032x}-{parent.span_id:016x}-01"
    assert (spans["inner"].start_time, spans["inner"].end_time) == (100 * 10**9, 1015 * 10**8)


def test_a_parent_that_is_none_is_left_out(
    traces: OtelTraces, exporter: InMemorySpanExporter
) -> None:
    traces.span("one", parent="nonsense").end()
    assert told(traces, exporter)["one"].parent is None


def test_a_failure_is_told_by_its_code_and_never_by_its_words(
    traces: OtelTraces, exporter: InMemorySpanExporter
) -> None:
    for name, error in (("ours", OutOfMemory("a secret castle")), ("other", KeyError("a secret"))):
        with pytest.raises(type(error)), traces.span(name, parent=None):
            raise error
    spans = told(traces, exporter)
    assert spans["ours"].attributes == {"error.type": "out_of_memory"}
    assert spans["other"].attributes == {"error.type": "KeyError"}
    assert not any("secret" in span.to_json() for span in spans.values())


def test_what_was_not_sampled_stays_so(traces: OtelTraces, exporter: InMemorySpanExporter) -> None:
    span = traces.span("unseen", parent=GOOD[:-1] + "0")
    assert re.fullmatch(rf"00-{TRACE}-[0-9a-f]{{16}}-00", span.traceparent or "")
    span.end()
    assert told(traces, exporter) == {}


def test_xray_gets_ids_that_begin_with_the_time(xray: OtelTraces) -> None:
    seconds = int((trace_id_of(xray.span("one", parent=None).traceparent) or "")[:8], 16)
    assert 1_700_000_000 < seconds < 2_500_000_000
