"""Around every request: its span, its count and its time. Outermost, so that all of it is seen."""

from __future__ import annotations

import time
from collections.abc import Mapping, MutableMapping
from http import HTTPMethod

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sfumato.core.current import working_on
from sfumato.core.ports import NO_TRACES, Measures, Span, SpanKind, Traces

#: Asked for every few seconds by machines; a trace of each would hide the others.
_UNTRACED = ("/healthz", "/readyz", "/v1/scaling/")
#: Workers ask and tell all the time: what belongs to a job's trace says so, and of that what is no
#: news of how far it is.
_WORKERS = "/v1/worker"
_NEWS = ("/loading", "/progress", "/watch")
_METHODS = frozenset(HTTPMethod)
_HEADER = b"traceparent"
_TELLING = frozenset((_HEADER, b"tracestate", b"x-amzn-trace-id"))


class Observing:
    """Middleware that makes each request a span, below the caller's own where it names one.

    Answers carry ``traceparent``: of the request's span, or of the job that a route has put into
    ``request.state.traceparent``.
    """

    def __init__(self, app: ASGIApp, *, traces: Traces, measures: Measures) -> None:
        self._app = app
        self._traces = traces
        self._measures = measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        parent = self._traces.read(_headers(scope))
        began, status = time.perf_counter(), 500
        state: MutableMapping[str, object] = scope.setdefault("state", {})

        async def observed_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                told = state.get("traceparent") or traceparent
                if isinstance(told, str):
                    message["headers"] = [*message["headers"], (_HEADER, told.encode())]
            await send(message)

        with self._span(scope, parent) as span:
            traceparent = span.traceparent or parent
            try:
                with working_on(traceparent=traceparent):
                    await self._app(scope, receive, observed_send)
            finally:
                method, route = _method(scope), _route(scope)
                span.rename(f"{method} {route}")
                span.set({"http.route": route, "http.response.status_code": status})
                if status >= 500:
                    span.fail(str(status))
                seconds = time.perf_counter() - began
                self._measures.requested(method=method, route=route, status=status, seconds=seconds)

    def _span(self, scope: Scope, parent: str | None) -> Span:
        path, method = scope["path"], _method(scope)
        by_a_worker = path.startswith(_WORKERS) and (parent is None or path.endswith(_NEWS))
        traces = NO_TRACES if by_a_worker or path.startswith(_UNTRACED) else self._traces
        return traces.span(
            method, parent=parent, kind=SpanKind.SERVER, attributes={"http.request.method": method}
        )


def _headers(scope: Scope) -> Mapping[str, str]:
    """Those that may tell of a trace; the others need not be looked at."""
    return {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in scope["headers"]
        if name in _TELLING
    }


def _method(scope: Scope) -> str:
    """As OpenTelemetry wants it: whatever is no method is one word."""
    return scope["method"] if scope["method"] in _METHODS else "_OTHER"


def _route(scope: Scope) -> str:
    """The template of the path, so that no job's id is in it."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else "other"
