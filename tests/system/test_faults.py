"""Really killing things: what is lost, what is done twice, what is left behind."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import psutil
import pytest

from tests.support.service import PATIENCE, ServiceProcess

#: Slow enough that a kill lands in mid-denoise, whatever the machine.
SLOW = {"device": "fake:0.2"}


def test_a_killed_workers_job_finishes_on_the_next_one(tmp_path: Path) -> None:
    with ServiceProcess(tmp_path, SLOW) as service:
        job_id = service.submit(num_inference_steps=10)["id"]
        service.events(job_id, until="step")
        (worker,) = service.workers()
        worker.kill()

        job = service.finished(job_id)
        assert job["status"] == "succeeded", job
        assert job["attempts"] == 2
        assert len(job["images"]) == 1
        kinds = service.events(job_id)
        assert kinds.count("started") == 2
        assert kinds.count("succeeded") == 1
    assert len(list((tmp_path / "images" / "jobs" / job_id).glob("*.png"))) == 1


def test_a_killed_services_queue_is_finished_by_the_next_one(tmp_path: Path) -> None:
    settings = {"device": "fake:0.05", "max_jobs": 2}
    with ServiceProcess(tmp_path, settings) as service:
        ids = [service.submit(f"castle {n}", num_inference_steps=5)["id"] for n in range(20)]
        service.events(ids[0], until="step")
        workers = service.workers()
        service.kill()
        _, alive = psutil.wait_procs(workers, timeout=PATIENCE)
        assert not alive, "the workers outlived the service"

    with ServiceProcess(tmp_path, settings) as service:
        for job_id in ids:
            job = service.finished(job_id)
            assert job["status"] == "succeeded", job
            assert len(job["images"]) == 1
            assert service.events(job_id).count("succeeded") == 1
    for job_id in ids:
        assert len(list((tmp_path / "images" / "jobs" / job_id).glob("*.png"))) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_service_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    with ServiceProcess(tmp_path, {**SLOW, "grace": 0.1}) as service:
        job_id = service.submit(num_inference_steps=100)["id"]
        service.events(job_id, until="step")
        family = service.family()
        assert len(family) > 1
        service.process.send_signal(number)
        assert service.process.wait(PATIENCE) == 0, service.log
        _, alive = psutil.wait_procs(family[1:], timeout=PATIENCE)
        assert not alive

    with ServiceProcess(tmp_path, {"device": "fake"}) as service:
        job = service.finished(job_id)
        assert job["status"] == "succeeded"
        assert job["attempts"] == 2


def test_a_dropped_connection_of_generate_cancels_its_job(tmp_path: Path) -> None:
    with ServiceProcess(tmp_path, SLOW) as service:
        host, port = service.http.base_url.host, service.http.base_url.port
        assert port is not None
        body = b'{"prompt": "a castle", "num_inference_steps": 100}'
        with socket.create_connection((host, port)) as connection:
            connection.sendall(
                b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            job_id = _only_job(service)
            service.events(job_id, until="step")
        assert service.finished(job_id)["status"] == "canceled"
        # The worker lives on and serves the next job.
        assert service.finished(service.submit()["id"])["status"] == "succeeded"


def test_a_running_job_is_canceled_within_one_step(tmp_path: Path) -> None:
    with ServiceProcess(tmp_path, SLOW) as service:
        job_id = service.submit(num_inference_steps=100)["id"]
        service.events(job_id, until="step")
        response = service.http.post(f"/v1/jobs/{job_id}/cancel")
        assert response.status_code in (200, 202)
        job = service.finished(job_id)
        assert job["status"] == "canceled"
        kinds = service.events(job_id)
        assert kinds[kinds.index("canceling") :].count("step") <= 2


def test_a_second_service_on_the_data_folder_is_refused_and_told_which(tmp_path: Path) -> None:
    with ServiceProcess(tmp_path) as first:
        second = ServiceProcess(tmp_path)
        line = second.wait_for("in use by process")
        assert str(first.process.pid) in line
        assert second.process.wait(PATIENCE) == 1
        second._close()
        assert first.http.get("/healthz").status_code == 200


def test_a_taken_port_is_refused_by_name(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        service = ServiceProcess(tmp_path, arguments=(f"--port={port}",))
        assert f":{port}" in service.wait_for("Can't listen")
        assert service.process.wait(PATIENCE) == 1
        service._close()


def _only_job(service: ServiceProcess) -> str:
    """The id of the one job there is, once it is there."""
    while True:
        jobs = service.http.get("/v1/jobs").json()["jobs"]
        if jobs:
            return str(jobs[0]["id"])
