"""The disk is full, the database is locked: what the caller is told, and what goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.service import PATIENCE, ServiceProcess


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_on_a_full_disk_the_job_fails_with_that_reason_and_the_service_stays_up(
    tmp_path: Path,
) -> None:
    with (
        _small_disk(tmp_path / "disk") as disk,
        ServiceProcess(tmp_path / "data", {"images_url": disk}) as service,
    ):
        assert service.finished(service.submit()["id"])["status"] == "succeeded"
        filler = disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass
        job = service.finished(service.submit()["id"])
        assert (job["status"], job["error"]["code"]) == ("failed", "storage_full")
        assert job["attempts"] == 1
        filler.unlink()
        assert service.finished(service.submit()["id"])["status"] == "succeeded"


def test_a_locked_database_is_told_to_the_caller_and_waited_out(tmp_path: Path) -> None:
    with ServiceProcess(tmp_path) as service:
        service.finished(service.submit()["id"])
        with contextlib.closing(
            sqlite3.connect(tmp_path / "sfumato.db", isolation_level=None)
        ) as other:
            other.execute("BEGIN EXCLUSIVE")
            answer = service.http.post("/v1/jobs", json={"prompt": "a castle"})
            assert answer.status_code == 503
            assert answer.json()["code"] == "store_busy"
            assert "lost" in answer.json()["detail"]
            assert answer.headers["Retry-After"]
            assert service.http.get("/healthz").status_code == 200
            assert len(service.http.get("/v1/jobs").json()["jobs"]) == 1, "reading goes on"
            other.execute("ROLLBACK")
        assert service.finished(service.submit()["id"])["status"] == "succeeded"


def test_a_service_that_stops_amid_an_outage_tells_its_callers_to_ask_again(
    tmp_path: Path,
) -> None:
    body = b'{"prompt": "a castle"}'
    head = (
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )
    with (
        ServiceProcess(tmp_path) as service,
        contextlib.closing(sqlite3.connect(tmp_path / "sfumato.db", isolation_level=None)) as other,
        socket.create_connection(
            (service.http.base_url.host, service.http.base_url.port)
        ) as asking,
    ):
        other.execute("BEGIN EXCLUSIVE")
        asking.sendall(head % len(body) + body)
        assert service.http.get("/healthz").status_code == 200  # so that request has begun
        service.process.send_signal(signal.SIGTERM)
        answer = asking.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 503"), answer
        assert b'"stopping"' in answer
        other.execute("ROLLBACK")
        service.process.wait(PATIENCE)
    assert not any("Traceback" in line for line in service.log), service.log
