"""``sfumato worker --tasks`` in the seed system's place: SNS in, pictures in S3, SNS out."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sfumato.adapters.memory import MemoryImageStore
from sfumato.adapters.sqs import SqsTaskSink, SqsTaskSource
from sfumato.bootstrap.clock import SystemClock
from tests.support.aws import REGION, Aws
from tests.support.servers import S3
from tests.support.service import PATIENCE, ServiceProcess

Start = Callable[..., subprocess.Popen[bytes]]


@dataclass
class Place:
    """What the operator made: a topic, a queue, a bucket, an output topic and who listens to it."""

    aws: Aws
    s3: S3
    bucket: str
    name: str

    @property
    def tasks_url(self) -> str:
        return f"sqs://{REGION}/{self.name}-gpu?topic={self.name}-requests&runtime=gpu"

    async def request(self, id_task: str, **parameters: Any) -> None:
        header = {"task": "text-to-image", "sd_model_checkpoint": "starter", "id_task": id_task}
        body = {"prompt": "a castle", "alwayson_scripts": header, **parameters}
        await self.aws.publish(f"{self.name}-requests", body, {"runtime": "gpu"})

    async def told(self) -> dict[str, Any]:
        """The parameters in the next message of the output topic."""
        url = await self.aws.queue_url(f"{self.name}-told")
        for _ in range(int(PATIENCE)):
            answer = await self.aws.sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1)
            for message in answer.get("Messages", ()):
                await self.aws.sqs.delete_message(
                    QueueUrl=url, ReceiptHandle=message["ReceiptHandle"]
                )
                parameters: dict[str, Any] = json.loads(message["Body"])["parameters"]
                return parameters
        raise AssertionError("nobody was told")

    async def results(self, id_task: str) -> list[str]:
        async with self.s3.client() as client:
            found = await client.list_objects_v2(Bucket=self.bucket, Prefix=id_task)
        return [entry["Key"] for entry in found.get("Contents", ())]

    async def left(self) -> int:
        """Messages in the queue, seen or not."""
        attributes = await self.aws.attributes(await self.aws.queue_url(f"{self.name}-gpu"))
        return sum(
            int(attributes[f"ApproximateNumberOfMessages{kind}"])
            for kind in ("", "NotVisible", "Delayed")
        )


@pytest.fixture
async def place(aws: Aws, aws_endpoint: str, s3_server: S3, s3_bucket: str) -> Place:
    name = f"t{secrets.token_hex(4)}"
    arn = await aws.arn(await aws.make_queue(f"{name}-told"))
    await aws.topic_arn(f"{name}-requests")
    await aws.sns.subscribe(
        TopicArn=await aws.topic_arn(f"{name}-done"),
        Protocol="sqs",
        Endpoint=arn,
        Attributes={"RawMessageDelivery": "true"},
    )
    place = Place(aws, s3_server, s3_bucket, name)
    sink = SqsTaskSink(MemoryImageStore(), "memory:")
    source = await SqsTaskSource.open(place.tasks_url, sink, SystemClock(), endpoint=aws_endpoint)
    await source.close()
    return place


@pytest.fixture
async def start(place: Place, aws_endpoint: str, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts ``sfumato worker --tasks``; nothing of it is left behind."""
    settings = {
        "lease": 3,
        "grace": 0.2,
        "aws_endpoint": aws_endpoint,
        "s3_endpoint": place.s3.endpoint,
        "tasks_url": place.tasks_url,
        "tasks_results_url": f"s3://{place.bucket}",
        "tasks_topic_arn": await place.aws.topic_arn(f"{place.name}-done"),
    }
    environment = {
        **os.environ,
        **place.s3.environment,
        **{f"SFUMATO_{key.upper()}": str(value) for key, value in settings.items()},
    }
    with ExitStack() as started:

        def begin(
            *arguments: str, device: str = "fake", data: Path = tmp_path
        ) -> subprocess.Popen[bytes]:
            process = subprocess.Popen(
                [sys.executable, "-m", "sfumato", "worker", "--tasks", *arguments],
                env={**environment, "SFUMATO_DEVICE": device, "SFUMATO_DATA": str(data)},
            )
            started.enter_context(process)
            started.callback(_kill, process)
            return process

        yield begin


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()


async def test_once_ends_soon_when_none_waits(place: Place, start: Start) -> None:
    process = start("--once")
    assert process.wait(PATIENCE) == 0
    assert await place.results("") == []


async def test_once_takes_one_task_and_ends(place: Place, start: Start) -> None:
    await place.request("1", seed=5)
    await place.request("2")
    process = start("--once")
    told = await place.told()
    assert process.wait(PATIENCE) == 0
    assert (told["id_task"], told["status"], told["image_seed"]) == ("1", 1, "5")
    image, document = sorted(await place.results("1/"), key=lambda key: key.endswith(".out"))
    assert told["image_url"] == f"s3://{place.bucket}/{image}"
    assert document.startswith("1/response-")
    assert await place.left() == 1


async def test_a_service_puts_the_results_of_its_own_tasks_there_too(
    place: Place, aws_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in place.s3.environment.items():
        monkeypatch.setenv(name, value)
    settings = {
        "aws_endpoint": aws_endpoint,
        "s3_endpoint": place.s3.endpoint,
        "tasks_results_url": f"s3://{place.bucket}",
        "tasks_topic_arn": await place.aws.topic_arn(f"{place.name}-done"),
    }
    header = {"task": "text-to-image", "sd_model_checkpoint": "starter", "id_task": "web"}
    body = {"sdname": "default", "prompt": "a castle", "seed": 5, "alwayson_scripts": header}
    with ServiceProcess(tmp_path, settings) as service:
        answer = service.http.post("/", json=body)
        told = await place.told()
    assert answer.json()["output_location"] == f"s3://{place.bucket}/web"
    assert (told["id_task"], told["status"], told["image_seed"]) == ("web", 1, "5")
    image, document = sorted(await place.results("web/"), key=lambda key: key.endswith(".out"))
    assert told["image_url"] == f"s3://{place.bucket}/{image}"
    assert document.startswith("web/response-")


@pytest.mark.parametrize("other", ["", "elsewhere"], ids=["one database", "two databases"])
async def test_killed_in_mid_task_it_comes_again_and_writes_one_set_of_objects(
    place: Place, start: Start, tmp_path: Path, other: str
) -> None:
    await place.request("1", batch_size=2, steps=10)
    first = start(device="fake:0.5")
    _wait_until_drawing(tmp_path)
    first.kill()
    first.wait(PATIENCE)

    second = start(data=tmp_path / other)
    told = await place.told()
    assert told["status"] == 1
    results = await place.results("1/")
    assert sorted(key.rpartition(".")[2] for key in results) == ["out", "png", "png"]
    second.send_signal(signal.SIGTERM)
    assert second.wait(PATIENCE) == 0
    assert await place.left() == 0
    assert await place.results("1/") == results


async def test_told_to_stop_it_gives_its_task_back(
    place: Place, start: Start, tmp_path: Path
) -> None:
    await place.request("1", steps=100)
    first = start(device="fake:0.5")
    _wait_until_drawing(tmp_path)
    first.send_signal(signal.SIGTERM)
    assert first.wait(PATIENCE) == 0
    assert await place.aws.count(f"{place.name}-gpu") == 1
    assert await place.results("1/") == []


def _wait_until_drawing(data: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not _is_drawing(data):
        assert time.monotonic() < deadline, "no job began"
        time.sleep(0.05)


def _is_drawing(data: Path) -> bool:
    try:
        database = sqlite3.connect(f"file:{data / 'sfumato.db'}?mode=ro", uri=True)
        with contextlib.closing(database):
            found = database.execute("SELECT 1 FROM jobs WHERE status = 'running'").fetchall()
    except sqlite3.OperationalError:  # it is not made yet
        return False
    return bool(found)


def test_without_an_address_it_says_so(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "sfumato", "worker", "--tasks", f"--data={tmp_path}"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == 1
    assert "SFUMATO_TASKS_URL" in ended.stderr
