"""The log's two formats, and what never stands in either."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from sfumato.bootstrap import logs
from sfumato.core.current import prompts_log, working_on
from sfumato.core.errors import InvalidRequest
from sfumato.settings import Settings

TRACE = "5759e988bd862e3fe1be46a994272793"
log = logging.getLogger("sfumato.tested")


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(logs, "_process", {})
    yield
    root.handlers[:], prompts_log.disabled = handlers, True
    root.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def refuse(about: str) -> None:
    raise InvalidRequest(f"The prompt {about!r} is refused.")


def misread(about: str) -> None:
    try:
        refuse(about)
    except InvalidRequest as error:
        raise ValueError(about) from error


def fail(about: str) -> None:
    try:
        misread(about)
    except ValueError:
        log.exception("job %s failed", "j1")


def test_json_is_one_object_a_line_with_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure_logging(Settings(log_format="json"))
    log.info("%d jobs\nwait", 3)
    log.debug("not at this level")
    logs.name_worker(worker="gpu-1", runtime="gpu")
    with working_on(traceparent=f"00-{TRACE}-53995c3f42cd8ad8-01", job="j1"):
        log.warning("slow – é")
    log.warning("of another", extra={"job": "j2", "trace_id": "t2"})
    plain, within, named = lines(capsys)
    assert datetime.fromisoformat(plain.pop("time")).tzinfo is not None
    assert plain == {"level": "INFO", "logger": "sfumato.tested", "message": "3 jobs\nwait"}
    assert (within["message"], within["job"], within["trace_id"]) == ("slow – é", "j1", TRACE)
    assert (within["worker"], within["runtime"], within["level"]) == ("gpu-1", "gpu", "WARNING")
    assert (named["job"], named["trace_id"]) == ("j2", "t2")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_exceptions_are_told_without_their_words(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure_logging(Settings(log_format=log_format))
    fail("a secret castle")
    prompts_log.info("job %s: %r", "j1", "a secret castle")
    written = capsys.readouterr().err
    assert "secret" not in written
    assert "builtins.ValueError" in written
    assert "sfumato.core.errors.InvalidRequest" in written
    assert "test_logs.py" in written


def test_prompts_are_logged_where_that_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure_logging(Settings(log_format="json", log_prompts=True))
    fail("a secret castle")
    prompts_log.info("job %s: %r", "j1", "a secret castle")
    failure, prompt = lines(capsys)
    assert "The prompt 'a secret castle' is refused." in failure["exception"]
    assert (prompt["logger"], prompt["message"]) == (
        "sfumato.prompts",
        "job j1: 'a secret castle'",
    )


def test_nothing_of_telemetry_is_imported_unless_it_is_asked_for() -> None:
    """So it takes neither time nor memory."""
    code = (
        "import sys; import sfumato.bootstrap.serve, sfumato.bootstrap.work_remote, "
        "sfumato.bootstrap.work_tasks; from sfumato.bootstrap.telemetry import open_telemetry; "
        "from sfumato.settings import Settings\n"
        "with open_telemetry(Settings(), service='x') as telemetry: assert not telemetry.pages\n"
        "ours = 'opentelemetry.sdk', 'opentelemetry.exporter', 'prometheus_client'\n"
        "print([name for name in sys.modules if name.startswith(ours)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
