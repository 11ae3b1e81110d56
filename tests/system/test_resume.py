"""A picture that is handed from one worker to another over PostgreSQL, RabbitMQ and S3."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import struct
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.servers import S3
from tests.support.service import ServiceProcess
from tests.support.worker import WorkerProcess

REQUEST = {"seed": 5, "num_inference_steps": 60, "sampler": "euler_a", "num_images": 2}


@pytest.fixture
def settings(
    fresh_postgres_url: str,
    rabbitmq_url: str,
    s3_server: S3,
    s3_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, Any]:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return {
        "device": "cpu",
        "grace": 0,
        "database_url": fresh_postgres_url,
        "queue_url": f"{rabbitmq_url}?prefix={s3_bucket}",
        "images_url": f"s3://{s3_bucket}",
        "s3_endpoint": s3_server.endpoint,
    }


def test_a_drained_workers_pictures_are_resumed_by_another_at_their_step(
    tmp_path: Path, settings: dict[str, Any], s3_server: S3, s3_bucket: str
) -> None:
    with ServiceProcess(tmp_path / "service", {**settings, "max_workers": 0}) as service:
        with WorkerProcess(tmp_path / "first", settings=settings) as first:
            whole = service.finished(service.submit(**REQUEST)["id"])
            job_id = service.submit(**REQUEST)["id"]
            service.events(job_id, until="step")
            first.process.send_signal(signal.SIGTERM)
            assert first.wait() == 0, first.log
        kept = asyncio.run(_steps_kept(s3_server, s3_bucket, job_id))
        with WorkerProcess(tmp_path / "second", settings=settings) as second:
            resumed = service.finished(job_id)
            second.process.send_signal(signal.SIGTERM)  # it tidies up after the end of the job
            assert second.wait() == 0, second.log
        assert (resumed["status"], resumed["attempts"]) == ("succeeded", 2), resumed

        # What the first worker told of was kept, and the second went on from there.
        told_before, told_after = _steps_told(service, job_id)
        assert len(kept) == 2
        assert 0 < max(told_before) <= sum(kept) < min(told_after)
        assert _pixels(service, resumed) == _pixels(service, whole)
    assert asyncio.run(_steps_kept(s3_server, s3_bucket, job_id)) == []


def _steps_told(service: ServiceProcess, job_id: str) -> list[list[int]]:
    """Steps done, summed over the job's pictures, as the events of each attempt told them."""
    attempts: list[list[int]] = []
    for event in service.http.get(f"/v1/jobs/{job_id}/events").text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in event.splitlines() if ": " in line)
        if fields.get("event") == "started":
            attempts.append([])
        elif fields.get("event") == "step":
            attempts[-1].append(int(json.loads(fields["data"])["step"]))
    return attempts


async def _steps_kept(s3: S3, bucket: str, job_id: str) -> list[int]:
    """The step in each checkpoint of the job."""
    steps = []
    async with s3.client() as client:
        prefix = f"checkpoints/{job_id}/"
        listed = await client.list_objects_v2(Bucket=bucket, Prefix=prefix)
        for entry in listed.get("Contents", []):
            answer = await client.get_object(Bucket=bucket, Key=entry["Key"])
            steps.append(_step_of(await answer["Body"].read()))
    return steps


def _step_of(checkpoint: bytes) -> int:
    (length,) = struct.unpack("<Q", checkpoint[:8])
    return int(json.loads(checkpoint[8 : 8 + length])["__metadata__"]["step"])


def _pixels(service: ServiceProcess, job: dict[str, Any]) -> list[bytes]:
    urls = [image["url"] for image in job["images"]]
    return [Image.open(io.BytesIO(service.http.get(url).content)).tobytes() for url in urls]
