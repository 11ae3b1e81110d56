"""A service whose bucket goes away: jobs wait for it, and none is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.servers import S3, PrivateS3, private
from tests.support.service import ServiceProcess


def test_jobs_outlive_outages_of_the_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with private(PrivateS3) as server:
        s3 = S3(server.url)
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        settings = {
            "images_url": f"s3://{s3.new_bucket()}",
            "s3_endpoint": s3.endpoint,
            "device": "fake:0.05",
        }
        with ServiceProcess(tmp_path, settings) as service:
            # A worker that finds no bucket says so, and the next one draws.
            server.kill()
            jobs = [service.submit()]
            assert "SFUMATO_S3_ENDPOINT" in service.wait_for("does not start")
            server.start()
            service.finished(jobs[0]["id"])

            # A picture that is drawn amid an outage waits for its end.
            jobs.append(service.submit(num_inference_steps=10))
            service.events(jobs[1]["id"], until="started")
            server.kill()
            jobs.append(service.submit(num_inference_steps=10))
            server.start()

            for job in jobs:
                done = service.finished(job["id"])
                assert done["status"] == "succeeded", done["error"]
                [image] = done["images"]
                assert service.http.get(image["url"]).content[:4] == b"\x89PNG"
        assert not any("Traceback" in line for line in service.log)
