"""What the running code works on: the span it is in and the job it is for, for traces and logs.

Kept in a context variable, so that each asyncio task has its own, and those it starts inherit it.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from sfumato.core.job import Job

#: W3C Trace Context, level 1, 3.2: version, trace, parent, flags. Version ff and zeros are not valid.
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)

#: Told of each request's prompts where the operator has asked for that; it keeps silent else.
prompts_log = logging.getLogger("sfumato.prompts")
prompts_log.disabled = True


@dataclass(frozen=True, slots=True)
class Current:
    """``traceparent``: of the span that is under way, in the W3C's form. ``job``: an id."""

    traceparent: str | None = None
    job: str | None = None


_current: ContextVar[Current] = ContextVar("current", default=Current())  # noqa: B039 - frozen


def current() -> Current:
    return _current.get()


@contextlib.contextmanager
def working_on(*, traceparent: str | None = None, job: str | None = None) -> Iterator[None]:
    """What is left out stays as it is."""
    before = _current.get()
    token = _current.set(Current(traceparent or before.traceparent, job or before.job))
    try:
        yield
    finally:
        _current.reset(token)


def read_traceparent(value: object) -> str | None:
    """The value where it is valid; else None: as the W3C asks, one that can't be read is dropped."""
    return value if isinstance(value, str) and _TRACEPARENT.fullmatch(value) else None


def trace_id_of(traceparent: str | None) -> str | None:
    """Its 32 hexadecimal digits."""
    return None if traceparent is None else traceparent[3:35]


def about(job: Job) -> dict[str, str]:
    """The fields of a log line that is about a job: ``log.info(…, extra=about(job))``."""
    trace_id = trace_id_of(job.traceparent)
    return {"job": job.id, **({} if trace_id is None else {"trace_id": trace_id})}
