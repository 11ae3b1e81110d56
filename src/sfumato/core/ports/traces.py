"""Where a job's time goes, told as spans to whoever collects traces.

A span's context travels as a W3C ``traceparent``, in the job, in its ring and over HTTP, so that
what happens elsewhere and later becomes part of the same trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self

from sfumato.core.current import read_traceparent

#: Names are OpenTelemetry's own, or begin with ``sfumato.``. Never a prompt.
Attributes = Mapping[str, str | int | float | bool]


class SpanKind(StrEnum):
    """As OpenTelemetry has them."""

    INTERNAL = "internal"
    SERVER = "server"
    PRODUCER = "producer"
    CONSUMER = "consumer"


class Span(Protocol):
    """Something that takes time. ``with`` it, or :meth:`end` it. Used by one thread at a time."""

    @property
    def traceparent(self) -> str | None:
        """What its children name as their parent; None: nobody collects traces."""
        ...

    def rename(self, name: str) -> None: ...

    def set(self, attributes: Attributes) -> None: ...

    def fail(self, code: str) -> None:
        """It went wrong; the code says how, as those of :mod:`sfumato.core.errors`."""
        ...

    def end(self, *, at: float | None = None) -> None:
        """``at``: seconds since the epoch; None: now. Twice is harmless."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends it. An exception fails it by its class alone: a message may quote a prompt."""
        ...


class Traces(Protocol):
    """Makes spans. No method waits for anything, or raises for what it is given."""

    @property
    def wanted(self) -> bool:
        """Whether anybody collects them; False: what only they need can be left out."""
        ...

    def read(self, headers: Mapping[str, str]) -> str | None:
        """The context that came with a request or a message; None: none, or none that is valid.

        Args:
            headers: by their names in lower case.
        """
        ...

    def span(
        self,
        name: str,
        *,
        parent: str | None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes | None = None,
        at: float | None = None,
    ) -> Span:
        """Begin a span.

        Args:
            parent: a ``traceparent``; None: it begins a trace of its own.
            at: seconds since the epoch; None: now.
        """
        ...


class _NoSpan:
    """The ``Span`` of nobody."""

    traceparent = None

    def rename(self, name: str) -> None:
        del name

    def set(self, attributes: Attributes) -> None:
        del attributes

    def fail(self, code: str) -> None:
        del code

    def end(self, *, at: float | None = None) -> None:
        del at

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing was begun."""


_NO_SPAN = _NoSpan()


class NoTraces:
    """The ``Traces`` port where nobody collects them: a caller's own context is still passed on."""

    wanted = False

    def read(self, headers: Mapping[str, str]) -> str | None:
        return read_traceparent(headers.get("traceparent"))

    def span(
        self,
        name: str,
        *,
        parent: str | None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes | None = None,
        at: float | None = None,
    ) -> Span:
        del name, parent, kind, attributes, at
        return _NO_SPAN


NO_TRACES = NoTraces()
