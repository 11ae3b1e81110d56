"""Workers that have an address and a token and nothing else, and what happens when things die."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.service import ServiceProcess
from tests.support.worker import WorkerProcess, new_token, sfumato

#: No worker of the service's own.
SERVICE = {"max_workers": 0}
#: Slow enough that a kill lands in mid-denoise, whatever the machine.
SLOW = {"device": "fake:0.2"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "service"


@pytest.fixture
def service(data: Path) -> Iterator[ServiceProcess]:
    with ServiceProcess(data, SERVICE) as service:
        yield service


def hire(
    service: ServiceProcess, folder: Path, token: str, *arguments: str, **settings: Any
) -> WorkerProcess:
    given = {"connect": service.url, "token": token, **settings}
    return WorkerProcess(folder, *arguments, settings=given)


def pictures(data: Path, job_id: str) -> int:
    return len(list((data / "images" / "jobs" / job_id).glob("*.png")))


def test_a_worker_elsewhere_does_every_job(
    service: ServiceProcess, data: Path, tmp_path: Path
) -> None:
    with hire(service, tmp_path / "pc", new_token(data)) as worker:
        ids = [service.submit(f"castle {n}", num_images=2)["id"] for n in range(6)]
        for job_id in ids:
            job = service.finished(job_id)
            assert (job["status"], job["attempts"], len(job["images"])) == ("succeeded", 1, 2)
            kinds = service.events(job_id)
            assert kinds.count("image") == 2
            assert "step" in kinds
            picture = service.http.get(job["images"][1]["url"])
            assert len(picture.content) == job["images"][1]["size_bytes"]
        (seen,) = service.http.get("/v1/workers").json()["workers"]
        assert (seen["kind"], seen["models"]) == ("remote", ["starter"])
        worker.process.send_signal(signal.SIGTERM)
        assert worker.wait() == 0, worker.log
    assert service.http.get("/v1/workers").json() == {"workers": []}
    assert not (tmp_path / "pc" / "sfumato.db").exists()


def test_a_killed_workers_job_finishes_on_another(data: Path, tmp_path: Path) -> None:
    with ServiceProcess(data, {**SERVICE, "lease": 3}) as service:
        token = new_token(data)
        job_id = service.submit(num_inference_steps=10)["id"]
        with hire(service, tmp_path / "a", token, **SLOW) as first:
            service.events(job_id, until="step")
            first.process.kill()
        with hire(service, tmp_path / "b", token):
            job = service.finished(job_id)
        assert (job["status"], job["attempts"]) == ("succeeded", 2), job
        assert service.events(job_id).count("succeeded") == 1
    assert pictures(data, job_id) == 1


def test_a_killed_service_costs_a_running_job_nothing(data: Path, tmp_path: Path) -> None:
    with ServiceProcess(data, SERVICE) as service:
        worker = hire(service, tmp_path / "pc", new_token(data), **SLOW)
        with worker:
            job_id = service.submit(num_inference_steps=20)["id"]
            service.events(job_id, until="step")
            port = service.http.base_url.port
            service.kill()
            with ServiceProcess(data, SERVICE, arguments=(f"--port={port}",)) as again:
                job = again.finished(job_id)
                assert (job["status"], job["attempts"]) == ("succeeded", 1), (job, worker.log)
                # And it goes on with the next.
                assert again.finished(again.submit()["id"])["status"] == "succeeded"
    assert pictures(data, job_id) == 1


def test_a_drained_workers_job_is_resumed_where_it_was(
    service: ServiceProcess, data: Path, tmp_path: Path
) -> None:
    token = new_token(data)
    with hire(service, tmp_path / "a", token, device="fake:0.1", grace=0.1) as first:
        job_id = service.submit(num_inference_steps=50)["id"]
        service.events(job_id, until="step")
        first.process.send_signal(signal.SIGTERM)
        assert first.wait() == 0, first.log
    assert list((data / "images" / "checkpoints" / job_id).iterdir())
    with hire(service, tmp_path / "b", token):
        job = service.finished(job_id)
    assert (job["status"], job["attempts"]) == ("succeeded", 2), job
    assert pictures(data, job_id) == 1


def test_a_revoked_worker_stops_and_its_job_goes_to_another(
    service: ServiceProcess, data: Path, tmp_path: Path
) -> None:
    token, other = new_token(data, name="lost laptop"), new_token(data)
    with hire(service, tmp_path / "a", token, **SLOW) as revoked:
        job_id = service.submit(num_inference_steps=100)["id"]
        service.events(job_id, until="step")
        name = sfumato("tokens", "list", data=data).splitlines()[1].split()[0]
        sfumato("tokens", "revoke", name, data=data)
        assert revoked.wait() == 1
        assert any("was revoked" in line for line in revoked.log), revoked.log
        assert not any(token in line for line in revoked.log)
    with hire(service, tmp_path / "b", other):
        job = service.finished(job_id)
    # The revoked worker may have been waiting for a job: what it won was taken from it again.
    assert (job["status"], job["attempts"] in (2, 3)) == ("succeeded", True), job
    assert pictures(data, job_id) == 1


def test_a_canceled_job_leaves_the_worker(
    service: ServiceProcess, data: Path, tmp_path: Path
) -> None:
    with hire(service, tmp_path / "pc", new_token(data), **SLOW):
        job_id = service.submit(num_inference_steps=100)["id"]
        service.events(job_id, until="step")
        service.http.post(f"/v1/jobs/{job_id}/cancel")
        assert service.finished(job_id)["status"] == "canceled"
        kinds = service.events(job_id)
        assert kinds[kinds.index("canceling") :].count("step") <= 2
        assert service.finished(service.submit()["id"])["status"] == "succeeded"


def test_a_worker_that_is_not_let_in_says_why(
    service: ServiceProcess, data: Path, tmp_path: Path
) -> None:
    cases = [
        (hire(service, tmp_path, "sfw_wrong"), "not known here"),
        (hire(service, tmp_path, new_token(data), "--runtime=large"), "not for the runtime"),
        (WorkerProcess(tmp_path, f"--connect={service.url}"), "SFUMATO_TOKEN"),
        (WorkerProcess(tmp_path, "--connect=http://a.example", "--token=sfw_x"), "https://"),
        (WorkerProcess(tmp_path, "--connect=http://127.0.0.1:1", "--token=x"), "not answer"),
    ]
    for worker, words in cases:
        with worker:
            assert worker.wait() == 1
        assert any(words in line for line in worker.log), worker.log
        assert not any("sfw_" in line.replace("sfw_…", "") for line in worker.log), worker.log


def test_a_one_shot_worker_does_one_job(
    service: ServiceProcess, data: Path, tmp_path: Path
) -> None:
    ids = [service.submit(f"castle {n}")["id"] for n in range(2)]
    token = new_token(data)
    with hire(service, tmp_path, token, "--once") as worker:
        assert worker.wait() == 0, worker.log
    assert sorted(service.job(job_id)["status"] for job_id in ids) == ["queued", "succeeded"]
    with WorkerProcess(data, "--once") as beside:
        assert beside.wait() == 0, beside.log
    assert {service.job(job_id)["status"] for job_id in ids} == {"succeeded"}


def test_a_one_shot_worker_without_work_never_loads_torch(
    service: ServiceProcess, data: Path, tmp_path: Path
) -> None:
    remote = {"device": "cpu", "connect": service.url, "token": new_token(data)}
    for folder, settings in ((tmp_path / "pc", remote), (data, {"device": "cpu"})):
        with WorkerProcess(folder, "--once", settings=settings, profile_imports=True) as worker:
            assert worker.wait() == 0, worker.log
        modules = {line.rpartition("|")[2].strip() for line in worker.log}
        assert "sfumato.worker.loop" in modules
        assert "torch" not in modules
