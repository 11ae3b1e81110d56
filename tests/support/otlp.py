"""A collector of traces: OTLP over HTTP, protobuf decoded, as a thread of the test's process."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from tests.support.answering import Answering

#: Longest wait for spans, in seconds. Generous: only a defect reaches it.
PATIENCE = 60.0


@dataclass(frozen=True)
class CollectedSpan:
    """Ids in hex; ``parent`` is empty for a root. Times are nanoseconds since the epoch."""

    service: str
    name: str
    trace_id: str
    id: str
    parent: str
    began: int
    ended: int
    kind: int
    failed: bool
    attributes: dict[str, Any]


class Collector(Answering):
    """``with`` it, and give its :attr:`settings` to a process's environment."""

    def __init__(self) -> None:
        self._spans: list[CollectedSpan] = []
        self._news = threading.Condition()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces"
                collector._take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Silent."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        super().__init__(server)
        self._port = server.server_port

    @property
    def environment(self) -> dict[str, str]:
        """The SDK's own variables."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self._port}",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }

    @property
    def spans(self) -> Sequence[CollectedSpan]:
        with self._news:
            return list(self._spans)

    def wait(self, enough: Callable[[Sequence[CollectedSpan]], bool]) -> Sequence[CollectedSpan]:
        """The spans, once there are enough."""
        with self._news:
            assert self._news.wait_for(lambda: enough(self._spans), PATIENCE), self._spans
            return list(self._spans)

    def _take(self, request: ExportTraceServiceRequest) -> None:
        with self._news:
            for resource in request.resource_spans:
                service = _plain(resource.resource.attributes)["service.name"]
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        self._spans.append(
                            CollectedSpan(
                                service=service,
                                name=span.name,
                                trace_id=span.trace_id.hex(),
                                id=span.span_id.hex(),
                                parent=span.parent_span_id.hex(),
                                began=span.start_time_unix_nano,
                                ended=span.end_time_unix_nano,
                                kind=span.kind,
                                failed=span.status.code == 2,
                                attributes=_plain(span.attributes),
                            )
                        )
            self._news.notify_all()


def _plain(attributes: Sequence[KeyValue]) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in attributes}
