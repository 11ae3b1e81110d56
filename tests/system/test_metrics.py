"""Metrics of a service and its workers, scraped over TCP after real jobs."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

from tests.support.metrics import OPENMETRICS, Metrics
from tests.support.probes import PROBED, Probes
from tests.support.service import ServiceProcess
from tests.support.worker import WorkerProcess, new_token

_PAGE = Path(__file__).parents[2] / "docs" / "howto" / "observing.md"
_RUNTIMES = [{"name": "default", "gpu_hour_price": 3600.0, "gpu_class": "test"}]
PROMPT = "a secret castle"


def internal_url(service: ServiceProcess) -> str:
    """It listens there before it does at its own port."""
    line = next(line for line in service.log if "answered at port" in line)
    return f"http://127.0.0.1:{line.rsplit(' ', 1)[-1]}"


def waiting_jobs(url: str, number: int) -> Metrics:
    """The first scrape that tells of so many: they are counted at most twice a second."""
    while (scraped := Metrics(url)).value("sfumato_queue_jobs", runtime="default") != number:
        time.sleep(0.05)
    return scraped


def documented() -> set[str]:
    """The metrics of the how-to's table."""
    return set(re.findall(r"^\| `(sfumato_[a-z_]+)` \|", _PAGE.read_text(), re.MULTILINE))


def test_every_metric_is_there_after_jobs_and_documented(tmp_path: Path) -> None:
    data = tmp_path / "service"
    settings = {"max_workers": 0, "runtimes": json.dumps(_RUNTIMES), **PROBED}
    with ServiceProcess(data, settings) as service:
        scraped = internal_url(service)
        before = Metrics(scraped)
        waiting, canceled = (service.submit(PROMPT, num_inference_steps=2) for _ in range(2))
        service.http.post(f"/v1/jobs/{canceled['id']}/cancel")
        queued = waiting_jobs(scraped, 1)
        refused = service.http.post("/v1/jobs", json={"prompt": PROMPT, "model": "none"})
        worker = WorkerProcess(
            tmp_path / "pc",
            settings={
                "device": "cpu",
                "connect": service.url,
                "token": new_token(data),
                **PROBED,
            },
        )
        with worker:
            drawn = Probes(worker).url
            service.finished(waiting["id"])
            lasting = service.submit(PROMPT, num_images=2, num_inference_steps=3, guidance_scale=7)
            job = service.finished(lasting["id"])
            served, worked = waiting_jobs(scraped, 0), Metrics(drawn)
            also = Metrics(drawn, accept=OPENMETRICS)
    assert (refused.status_code, job["status"]) == (422, "succeeded")

    # What waits, by the store; nothing before, one job after another was taken back.
    assert before.value("sfumato_store_up") == before.value("sfumato_webhooks_open") + 1 == 1
    assert before.value("sfumato_queue_jobs", runtime="default") == 0
    assert before.value("sfumato_queue_age_seconds", runtime="default") == 0
    assert (queued.value("sfumato_queue_age_seconds", runtime="default") or 0) > 0
    assert served.value("sfumato_jobs_running", runtime="default") == 0

    # What came of jobs is counted where it is written, however long the worker lives.
    assert served.value("sfumato_jobs_submitted_total", runtime="default") == 3
    ended = "sfumato_jobs_ended_total"
    assert served.value(ended, runtime="default", status="succeeded") == 2
    assert served.value(ended, runtime="default", status="canceled") == 1
    assert served.value("sfumato_images_total", runtime="default") == 3
    phases = "sfumato_job_phase_seconds_count"
    assert served.value(phases, runtime="default", phase="denoising") == 2
    seconds = served.value("sfumato_gpu_seconds_total", runtime="default") or 0
    cost = served.value("sfumato_cost_total", runtime="default", currency="USD") or 0
    assert 0 < seconds < 1000
    assert abs(cost - seconds) < 1e-6  # at one of its currency a second

    # By the template of a path, never by the path.
    requests = "sfumato_http_requests_total"
    assert served.value(requests, method="POST", route="/v1/jobs", status="202") == 3
    assert served.value(requests, method="POST", route="/v1/jobs", status="422") == 1
    cancel = "/v1/jobs/{job_id}/cancel"
    assert served.value(requests, method="POST", route=cancel, status="200") == 1
    latency = "sfumato_http_request_seconds_count"
    assert served.value(latency, method="POST", route="/v1/jobs") == 4

    # The worker: two steps of the first job, and three of each picture of the other.
    steps = worked.value("sfumato_steps_total")
    assert steps == 2 + 2 * 3
    batches = worked.value("sfumato_batch_step_seconds_count") or 0
    assert 2 + 3 <= batches <= steps
    assert worked.value("sfumato_batch_occupancy_count") == batches
    assert worked.value("sfumato_batch_occupancy_bucket", le="1.0") == batches
    cold = {
        phase: worked.value("sfumato_cold_start_seconds", phase=phase)
        for phase in ("process", "engine", "model", "first_step")
    }
    assert all(spent is not None and 0 < spent < 600 for spent in cold.values()), cold
    free, total = (worked.value("sfumato_device_memory_bytes", state=s) for s in ("free", "total"))
    assert 0 < (free or 0) < (total or 0)
    assert also.media_type.startswith("application/openmetrics-text")
    assert also.value("sfumato_steps_total") == steps

    # The table, the metrics and nothing else; no label has many values.
    told = served.names() | worked.names()
    assert documented() - told == {"sfumato_attempt_failures_total"}  # nothing failed
    assert told <= documented()
    values = {value for _, value in served.labels() | worked.labels()}
    assert not any(job["id"] in value or "secret" in value for value in values)


def test_a_service_counts_what_the_workers_did_that_it_has_started(tmp_path: Path) -> None:
    settings = {"device": "fake", "idle_timeout": 0.1, **PROBED}
    with ServiceProcess(tmp_path / "service", settings) as service:
        scraped = internal_url(service)
        jobs = [service.submit(PROMPT, num_images=2, num_inference_steps=3) for _ in range(2)]
        assert {service.finished(job["id"])["status"] for job in jobs} == {"succeeded"}
        service.wait_for(" stopped")  # and is still counted
        while (served := Metrics(scraped)).value("sfumato_images_total", runtime="default") != 4:
            time.sleep(0.05)
    ended = "sfumato_jobs_ended_total"
    assert served.value(ended, runtime="default", status="succeeded") == 2
    assert served.value("sfumato_steps_total") == 2 * 2 * 3
    assert (served.value("sfumato_gpu_seconds_total", runtime="default") or 0) > 0
    assert (served.value("sfumato_cold_start_seconds", phase="process") or 0) > 0
