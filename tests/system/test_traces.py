"""One trace from the HTTP request to the upload, through processes, as a collector gets it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.otlp import CollectedSpan, Collector
from tests.support.service import ServiceProcess
from tests.support.worker import WorkerProcess, new_token

TRACE, PARENT = "5759e988bd862e3fe1be46a994272793", "53995c3f42cd8ad8"
#: Of one attempt, in the order in which they begin.
PARTS = ["load", "encode", "denoise", "decode", "write", "store", "finish"]
PROMPT = "a secret castle"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as collector:
        for name, value in collector.environment.items():
            monkeypatch.setenv(name, value)
        yield collector


def of_trace(spans: Sequence[CollectedSpan], trace_id: str) -> dict[str, CollectedSpan]:
    """The spans of a trace by their names, of which each has one."""
    found = [span for span in spans if span.trace_id == trace_id]
    named = {span.name: span for span in found}
    assert len(named) == len(found), found
    return named


def is_whole(spans: Sequence[CollectedSpan]) -> bool:
    names = {span.name for span in spans}
    return {"POST /v1/jobs", "submit", "queued", "attempt", *PARTS} <= names


def check_job(spans: dict[str, CollectedSpan], job_id: str, *, worker: str) -> None:
    """Every part of a job's life is there, and its parent is right."""
    request, submit, attempt = spans["POST /v1/jobs"], spans["submit"], spans["attempt"]
    assert (submit.parent, spans["queued"].parent, attempt.parent) == (
        request.id,
        submit.id,
        submit.id,
    )
    assert {spans[name].parent for name in PARTS} == {attempt.id}
    assert [request.service, submit.service, attempt.service] == ["sfumato", "sfumato", worker]
    assert [request.kind, submit.kind, attempt.kind] == [2, 4, 5]  # server, producer, consumer
    assert request.attributes["http.response.status_code"] == 202
    assert request.attributes["http.route"] == "/v1/jobs"
    assert submit.attributes["sfumato.job"] == attempt.attributes["sfumato.job"] == job_id
    assert (
        spans["denoise"].attributes["sfumato.steps"],
        attempt.attributes["sfumato.attempt"],
    ) == (
        6,
        1,
    )
    begins = [spans[name].began for name in PARTS]
    assert begins == sorted(begins)
    assert all(attempt.began <= spans[name].began <= attempt.ended for name in PARTS)
    assert spans["queued"].ended <= attempt.began
    assert not any(span.failed for span in spans.values())
    assert not any(PROMPT in str(span) for span in spans.values())


def test_a_job_is_one_trace_from_the_request_to_the_upload(
    collector: Collector, tmp_path: Path
) -> None:
    with ServiceProcess(tmp_path, {"traces": "otlp"}) as service:
        answer = service.http.post(
            "/v1/jobs",
            json={"prompt": PROMPT, "num_images": 1, "num_inference_steps": 6},
            headers={"traceparent": f"00-{TRACE}-{PARENT}-01"},
        )
        job_id = answer.json()["id"]
        service.finished(job_id)
        spans = of_trace(collector.wait(is_whole), TRACE)
        asked = service.http.get(f"/v1/jobs/{job_id}")
    assert spans["POST /v1/jobs"].parent == PARENT
    check_job(spans, job_id, worker="sfumato-worker")
    # The job's own context, whoever asks for it and whenever.
    told = f"00-{TRACE}-{spans['submit'].id}-01"
    assert answer.headers["traceparent"] == asked.headers["traceparent"] == told


def test_a_worker_elsewhere_works_in_the_same_trace(collector: Collector, tmp_path: Path) -> None:
    data = tmp_path / "service"
    told = {"traces": "otlp", "log_format": "json", "log_level": "DEBUG"}
    with ServiceProcess(data, {"max_workers": 0, **told}) as service:
        settings = {"connect": service.url, "token": new_token(data), **told}
        with WorkerProcess(tmp_path / "pc", "--once", settings=settings) as worker:
            job_id = service.submit(PROMPT, num_inference_steps=6)["id"]
            assert worker.wait() == 0, worker.log
        spans = collector.wait(
            lambda spans: is_whole(spans) and sum("/v1/worker/" in s.name for s in spans) == 3
        )
    trace_id = next(span.trace_id for span in spans if span.name == "submit")
    named = of_trace(spans, trace_id)
    assert named["POST /v1/jobs"].parent == ""
    check_job(named, job_id, worker="sfumato-worker")
    # What the service did for the worker is told below what the worker was at.
    called = {name: span for name, span in named.items() if "/v1/worker/" in name}
    attempt = "/v1/worker/jobs/{job_id}/{attempt}"
    assert {name: span.parent for name, span in called.items()} == {
        f"POST {attempt}/images/{{index}}/upload": named["store"].id,
        f"PUT {attempt}/images/{{index}}": named["store"].id,
        f"POST {attempt}/complete": named["finish"].id,
    }
    assert {span.service for span in called.values()} == {"sfumato"}
    check_logs(service.log, worker.log)


def check_logs(service: Sequence[str], worker: Sequence[str]) -> None:
    """Each line is an object, but for what a person is told who starts it; none has a prompt."""
    logged = [json.loads(line) for line in service if not line.startswith("Sfumato listens at ")]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in logged)
    logged = [json.loads(line) for line in worker]
    runtimes = {line["runtime"] for line in logged if "worker" in line}
    assert (runtimes, bool(logged)) == ({"default"}, True), logged
    assert not any(PROMPT in line for line in (*service, *worker))


def test_a_trace_header_that_cannot_be_read_is_dropped_and_the_job_drawn(
    collector: Collector, tmp_path: Path
) -> None:
    del collector
    with ServiceProcess(tmp_path, {"traces": "xray"}) as service:
        given = {"X-Amzn-Trace-Id": f"Root=1-{TRACE[:8]}-{TRACE[8:]};Parent={PARENT};Sampled=1"}
        jobs = []
        for headers in ({}, given, {"X-Amzn-Trace-Id": "Root=1-é;;"}, {"traceparent": "00-0-0-0"}):
            raw = {name: value.encode("latin-1") for name, value in headers.items()}
            answer = service.http.post("/v1/jobs", json={"prompt": PROMPT}, headers=raw)
            assert answer.status_code == 202
            jobs.append((answer.json()["id"], answer.headers["traceparent"]))
        for job_id, traceparent in jobs:
            assert service.finished(job_id)["status"] == "succeeded"
            assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", traceparent)
    assert jobs[1][1][3:35] == TRACE
    assert len({traceparent for _, traceparent in jobs}) == 4


def test_without_traces_the_callers_own_context_is_kept(tmp_path: Path) -> None:
    given = f"00-{TRACE}-{PARENT}-01"
    settings = {"max_workers": 0, "log_format": "json", "log_prompts": "true"}
    with ServiceProcess(tmp_path, settings) as service:
        body = {"prompt": PROMPT}
        answer = service.http.post("/v1/jobs", json=body, headers={"traceparent": given})
        assert answer.headers["traceparent"] == given
        without = service.http.post("/v1/jobs", json=body, headers={"traceparent": "00-1-2-3"})
        assert "traceparent" not in without.headers
        job_id = answer.json()["id"]
        assert service.http.get(f"/v1/jobs/{job_id}").headers["traceparent"] == given
        logged = json.loads(service.wait_for(job_id))
    assert (PROMPT in logged["message"], logged["job"], logged["trace_id"]) == (True, job_id, TRACE)
