"""Real workers and services, and the cluster and the cloud around them."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.kubernetes import ApiServer, event, pod
from tests.support.metadata import MetadataServer
from tests.support.service import ServiceProcess
from tests.support.worker import WorkerProcess, new_token

BUSY = {"controller.kubernetes.io/pod-deletion-cost": "100", "karpenter.sh/do-not-disrupt": "true"}
IDLE = {"controller.kubernetes.io/pod-deletion-cost": "0"}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(tmp_path / "serviceaccount") as cluster:
        yield cluster


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "service"


@pytest.fixture
def service(cluster: ApiServer, data: Path) -> Iterator[ServiceProcess]:
    """It starts no workers itself, and asks the cluster."""
    settings = {"max_workers": 0, "cluster_namespace": "pictures", **cluster.settings()}
    with ServiceProcess(data, settings) as service:
        yield service


def hire(
    service: ServiceProcess, cluster: ApiServer, data: Path, *arguments: str, **settings: Any
) -> WorkerProcess:
    given = {
        "connect": service.url,
        "token": new_token(data),
        "pod_name": "w-1",
        "pod_namespace": "pictures",
        **cluster.settings(),
        **settings,
    }
    return WorkerProcess(data.parent / "worker", *arguments, settings=given)


def test_a_worker_marks_its_pod_while_it_is_busy(
    service: ServiceProcess, cluster: ApiServer, data: Path
) -> None:
    cluster.pods = [pod("w-1"), pod("w-2")]
    with hire(service, cluster, data, device="fake:0.1") as worker:
        job_id = service.submit(num_inference_steps=20)["id"]
        cluster.wait_marked("w-1", BUSY)
        assert service.finished(job_id)["status"] == "succeeded"
        cluster.wait_marked("w-1", IDLE)
        worker.process.send_signal(signal.SIGTERM)
        assert worker.wait() == 0, worker.log
    assert cluster.marks("w-2") == {}
    assert not any(cluster.token in line for line in worker.log)


def test_an_api_server_that_refuses_costs_no_job_anything(
    service: ServiceProcess, cluster: ApiServer, data: Path
) -> None:
    cluster.refuses = 403
    waiting = service.submit()
    assert service.job(waiting["id"])["waiting"] == "waiting for a worker to answer"
    with hire(service, cluster, data) as worker:
        ids = [waiting["id"], *(service.submit(f"castle {n}")["id"] for n in range(3))]
        assert {service.finished(job_id)["status"] for job_id in ids} == {"succeeded"}
        worker.process.send_signal(signal.SIGTERM)
        assert worker.wait() == 0, worker.log
    assert sum("could not be marked" in line for line in worker.log) == 1


def test_a_waiting_job_says_what_its_pod_waits_for(
    service: ServiceProcess, cluster: ApiServer
) -> None:
    lacking = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    unscheduled = {"type": "PodScheduled", "status": "False", "message": lacking}
    cluster.pods = [pod("w-1", conditions=[unscheduled])]
    cluster.events = [event("w-1", "FailedScheduling", lacking)]
    first, second = service.submit()["id"], service.submit()["id"]
    reason = f"starting a worker: pod w-1 waits for a node ({lacking[:-1]})"
    assert service.job(first)["waiting"] == reason
    assert service.job(second)["waiting"] == f"queued behind 1; {reason}"
    (runtime,) = service.http.get("/v1/runtimes").json()["runtimes"]
    assert runtime["waiting"] == reason
    assert len(cluster.calls) == 2  # pods and events, once for all who asked


@pytest.mark.parametrize("arguments", [(), ("--once",)], ids=["lasting", "once"])
def test_a_worker_whose_machine_is_taken_away_releases_its_job_in_time(
    service: ServiceProcess, cluster: ApiServer, data: Path, arguments: tuple[str, ...]
) -> None:
    job_id = service.submit(num_inference_steps=100)["id"]
    with MetadataServer() as metadata:
        settings = {
            "spot_notices": "gcp",  # the server answers at the change: nothing is polled for
            "spot_endpoint": metadata.url,
            "device": "fake:2",
            "grace": 600,
        }
        with hire(service, cluster, data, *arguments, **settings) as worker:
            service.events(job_id, until="step")
            metadata.wait_asked(1)
            metadata.give_notice(30)
            assert worker.wait() == 0, worker.log
    job = service.job(job_id)
    assert (job["status"], job["attempts"]) == ("queued", 1)
    assert list((data / "images" / "checkpoints" / job_id).iterdir())
    with contextlib.closing(sqlite3.connect(data / "sfumato.db")) as database:
        (outcome,) = database.execute("SELECT outcome FROM attempts").fetchone()
    assert outcome == "released"  # which is no failure
