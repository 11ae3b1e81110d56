"""Workers as a cluster sees them: their probes, and how they end when they are told to."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.probes import PROBED, Probes
from tests.support.service import ServiceProcess
from tests.support.worker import WorkerProcess, new_token

#: No worker of the service's own.
SERVICE = {"max_workers": 0}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "service"


@pytest.fixture
def service(data: Path) -> Iterator[ServiceProcess]:
    with ServiceProcess(data, SERVICE) as service:
        yield service


@pytest.fixture
def token(service: ServiceProcess, data: Path) -> str:
    return new_token(data)


def hire(
    service: ServiceProcess, folder: Path, token: str, *arguments: str, **settings: Any
) -> WorkerProcess:
    given = {"connect": service.url, "token": token, **PROBED, **settings}
    return WorkerProcess(folder, *arguments, settings=given)


def beside(service: ServiceProcess, data: Path, *arguments: str, **settings: Any) -> WorkerProcess:
    del service
    return WorkerProcess(data, *arguments, settings={**PROBED, **settings})


def test_probes_are_answered_while_a_real_engine_opens_loads_and_draws(
    service: ServiceProcess, tmp_path: Path, token: str
) -> None:
    with hire(service, tmp_path / "pc", token, device="cpu") as worker:
        probes = Probes(worker)
        assert probes.get("livez")[0] == 200
        probes.until("startupz", 200)
        assert probes.until("readyz", 200) == "takes work"
        job_id = service.submit(num_inference_steps=40)["id"]
        service.events(job_id, until="step")
        assert [probes.get(name)[0] for name in ("startupz", "livez", "readyz")] == [200] * 3
        assert service.finished(job_id)["status"] == "succeeded"


@pytest.mark.parametrize("where", ["elsewhere", "beside the service"])
def test_at_sigterm_it_takes_no_more_and_finishes_what_it_has(
    service: ServiceProcess, data: Path, tmp_path: Path, token: str, where: str
) -> None:
    slow = {"device": "fake:0.2", "grace": 300}
    remote = where == "elsewhere"
    worker = hire(service, tmp_path, token, **slow) if remote else beside(service, data, **slow)
    with worker:
        probes = Probes(worker)
        job_id = service.submit(num_inference_steps=10)["id"]
        service.events(job_id, until="step")
        worker.process.send_signal(signal.SIGTERM)
        assert "draining" in probes.until("readyz", 503)
        assert probes.get("livez")[0] == 200
        later = service.submit()["id"]
        assert worker.wait() == 0, worker.log
    job = service.job(job_id)
    assert (job["status"], job["attempts"]) == ("succeeded", 1)
    assert service.job(later)["status"] == "queued"


@pytest.mark.parametrize("arguments", [(), ("--once",)])
def test_a_second_sigterm_ends_it_sooner_and_loses_no_step(
    service: ServiceProcess, data: Path, tmp_path: Path, token: str, arguments: tuple[str, ...]
) -> None:
    job_id = service.submit(num_inference_steps=100)["id"]
    with hire(service, tmp_path, token, *arguments, device="fake:0.2", grace=300) as worker:
        probes = Probes(worker)
        service.events(job_id, until="step")
        worker.process.send_signal(signal.SIGTERM)
        probes.until("readyz", 503)
        worker.process.send_signal(signal.SIGTERM)
        assert worker.wait() == 0, worker.log
    job = service.job(job_id)
    assert (job["status"], job["attempts"]) == ("queued", 1)
    assert list((data / "images" / "checkpoints" / job_id).iterdir())
    with hire(service, tmp_path, token, "--once") as second:
        assert service.finished(job_id)["status"] == "succeeded"
        assert second.wait() == 0, second.log


def test_a_one_shot_worker_is_ready_from_its_claim_on(
    service: ServiceProcess, tmp_path: Path, token: str
) -> None:
    job_id = service.submit(num_inference_steps=100)["id"]
    with hire(service, tmp_path, token, "--once", device="fake:0.2", grace=0) as worker:
        assert Probes(worker).until("readyz", 200) == "a job is claimed"
        service.events(job_id, until="started")
        worker.process.send_signal(signal.SIGTERM)
        assert worker.wait() == 0, worker.log
    assert service.job(job_id)["status"] == "queued"


def test_an_engine_that_is_stuck_fails_the_liveness_probe_alone(
    service: ServiceProcess, tmp_path: Path, token: str
) -> None:
    with hire(service, tmp_path, token, device="fake:600", stuck_after=0.5) as worker:
        probes = Probes(worker)
        probes.until("startupz", 200)
        assert probes.get("livez")[0] == 200
        service.submit()
        assert "one piece of work" in probes.until("livez", 503)
        assert probes.get("startupz")[0] == 200


def test_a_service_that_is_away_makes_it_unready_and_not_dead(
    service: ServiceProcess, data: Path, tmp_path: Path, token: str
) -> None:
    with hire(service, tmp_path / "pc", token) as worker:
        probes = Probes(worker)
        probes.until("readyz", 200)
        port = service.http.base_url.port
        service.kill()
        assert "no work can be had" in probes.until("readyz", 503)
        assert probes.get("livez")[0] == 200
        with ServiceProcess(data, SERVICE, arguments=(f"--port={port}",)):
            probes.until("readyz", 200)
