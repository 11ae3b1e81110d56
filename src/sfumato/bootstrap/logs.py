"""Logging of a service or worker process: one line a record, to standard error.

Exceptions are written as their classes and frames, without their messages, unless prompts may be
logged: a message may quote a request.
"""

from __future__ import annotations

import json
import logging
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from sfumato.core.current import current, prompts_log, trace_id_of
from sfumato.settings import LogFormat, Settings

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
#: Who this process is, for its lines: a worker's name and its runtime.
_process: dict[str, str] = {}


def configure_logging(settings: Settings) -> None:
    formatter = _JsonFormatter() if settings.log_format is LogFormat.JSON else _TextFormatter()
    formatter.with_messages = settings.log_prompts
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    prompts_log.disabled = not settings.log_prompts
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("aiobotocore").setLevel(logging.WARNING)
    # It would log every URL, and a presigned one is a secret.
    logging.getLogger("httpx").setLevel(logging.WARNING)


def name_worker(*, worker: str, runtime: str) -> None:
    """From now on lines say which worker wrote them, where their format has a place for it."""
    _process.update(worker=worker, runtime=runtime)


class _Formatter(logging.Formatter):
    #: Whether exceptions are written with their messages.
    with_messages = False

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 - logging's own name
        if self.with_messages:
            return super().formatException(ei)
        lines, error = [], ei[1]
        while error is not None:
            frames = "".join(traceback.format_tb(error.__traceback__))
            lines.append(f"{frames}{type(error).__module__}.{type(error).__qualname__}")
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "\nCaused by:\n".join(lines)


class _TextFormatter(_Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(process)d %(name)s: %(message)s")


class _JsonFormatter(_Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        now = current()
        known: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "job": getattr(record, "job", None) or now.job,
            **_process,
            "trace_id": getattr(record, "trace_id", None) or trace_id_of(now.traceparent),
        }
        if record.exc_info:
            known["exception"] = self.formatException(record.exc_info)
        line = {name: value for name, value in known.items() if value is not None}
        return json.dumps(line, ensure_ascii=False)
