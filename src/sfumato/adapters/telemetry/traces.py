"""The ``Traces`` port by OpenTelemetry's SDK: spans go out by OTLP, from a thread of the SDK's own.

Where they go, how many are kept and what they say of this process is the SDK's own to read, from
the standard ``OTEL_…`` variables.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagators.textmap import Getter, TextMapPropagator
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from sfumato.core.ports import Attributes, Span, SpanKind

log = logging.getLogger(__name__)

_KINDS = {
    SpanKind.INTERNAL: trace.SpanKind.INTERNAL,
    SpanKind.SERVER: trace.SpanKind.SERVER,
    SpanKind.PRODUCER: trace.SpanKind.PRODUCER,
    SpanKind.CONSUMER: trace.SpanKind.CONSUMER,
}


#: Seconds for which what is left is tried to be sent.
_LAST_SECONDS = 2.0


class _Headers(Getter[Mapping[str, str]]):
    """Propagators ask by the names as their standards write them."""

    def get(self, carrier: Mapping[str, str], key: str) -> list[str] | None:
        value = carrier.get(key.lower())
        return None if value is None else [value]

    def keys(self, carrier: Mapping[str, str]) -> list[str]:
        return list(carrier)


_HEADERS = _Headers()
_W3C = TraceContextTextMapPropagator()


class OtelTraces:
    """The ``Traces`` port.

    Args:
        exporter: where spans go; None: by OTLP over HTTP, as the environment says.
        propagators: read what comes with a request; the first that finds anything counts.
    """

    wanted = True

    def __init__(
        self,
        *,
        service: str,
        version: str,
        exporter: SpanExporter | None = None,
        ids: IdGenerator | None = None,
        propagators: tuple[TextMapPropagator, ...] = (_W3C,),
    ) -> None:
        own = Resource({"service.name": service, "service.version": version})
        self._provider = TracerProvider(
            resource=Resource.create().merge(own).merge(OTELResourceDetector().detect()),
            id_generator=ids or RandomIdGenerator(),
            shutdown_on_exit=False,  # the process closes it in its own order
        )
        self._exporter = exporter or OTLPSpanExporter()
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("sfumato", version)
        self._propagators = propagators

    @classmethod
    def for_xray(cls, *, service: str, version: str, exporter: SpanExporter | None = None) -> Self:
        """With ids as X-Ray wants them, which begin with the time, and with its trace header.

        The W3C's is read too: that is how a job's context travels among processes of ours.
        """
        from opentelemetry.propagators.aws import AwsXRayPropagator  # noqa: PLC0415
        from opentelemetry.sdk.extension.aws.trace import AwsXRayIdGenerator  # noqa: PLC0415

        return cls(
            service=service,
            version=version,
            exporter=exporter,
            ids=AwsXRayIdGenerator(),
            propagators=(AwsXRayPropagator(), _W3C),
        )

    def read(self, headers: Mapping[str, str]) -> str | None:
        for propagator in self._propagators:
            found = self._extracted(propagator, headers)
            if found.is_valid:
                return _as_text(found)
        return None

    def _extracted(
        self, propagator: TextMapPropagator, headers: Mapping[str, str]
    ) -> trace.SpanContext:
        try:
            context = propagator.extract(headers, Context(), _HEADERS)
        except Exception as error:  # noqa: BLE001 - whatever it stumbles over, the job goes on
            log.debug("a trace header can't be read (%s)", type(error).__name__)
            return trace.INVALID_SPAN_CONTEXT
        return trace.get_current_span(context).get_span_context()

    def span(
        self,
        name: str,
        *,
        parent: str | None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes | None = None,
        at: float | None = None,
    ) -> Span:
        context = Context()
        if parent is not None:
            context = _W3C.extract({"traceparent": parent}, context, _HEADERS)
        return _OtelSpan(
            self._tracer.start_span(
                name,
                context,
                kind=_KINDS[kind],
                attributes=attributes,
                start_time=_nanoseconds(at),
                record_exception=False,
            )
        )

    def close(self) -> None:
        """Send what is left. A collector that is away holds up the end of a process for moments."""
        giving_up = threading.Timer(_LAST_SECONDS, self._exporter.shutdown)
        giving_up.start()
        try:
            self._provider.shutdown()
        finally:
            giving_up.cancel()


class _OtelSpan:
    """The ``Span`` port."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    @property
    def traceparent(self) -> str:
        return _as_text(self._span.get_span_context())

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def set(self, attributes: Attributes) -> None:
        self._span.set_attributes(attributes)

    def fail(self, code: str) -> None:
        self._span.set_attribute("error.type", code)
        self._span.set_status(trace.StatusCode.ERROR)

    def end(self, *, at: float | None = None) -> None:
        if self._span.is_recording():
            self._span.end(_nanoseconds(at))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception):
            self.fail(str(getattr(error, "code", type(error).__name__)))
        self.end()


def _as_text(context: trace.SpanContext) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _nanoseconds(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1e9)
