"""``sfumato worker --tasks`` on the queue ``tasks``, under its seed's own variables."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel

from tests.support.service import PATIENCE

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
async def channel(rabbitmq_url: str) -> AsyncIterator[AbstractChannel]:
    async with await aio_pika.connect(rabbitmq_url) as connection:
        yield await connection.channel()


@pytest.fixture
async def tasks(channel: AbstractChannel) -> AsyncIterator[str]:
    name = f"tasks-{secrets.token_hex(4)}"
    await channel.declare_queue(name)
    yield name
    await channel.queue_delete(name)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
async def start(
    rabbitmq_url: str, tasks: str, results: Path, tmp_path: Path
) -> AsyncIterator[Start]:
    """Starts a worker; nothing of it is left behind. Each has a disk of its own, as pods have."""
    with ExitStack() as started:

        def begin(data: str, *, device: str = "fake", **variables: str) -> subprocess.Popen[bytes]:
            environment = {
                "AMQP_URL": rabbitmq_url,
                "Q_NAME": tasks,
                "FLAG_FILE": str(tmp_path / "working"),
                "SFUMATO_TASKS_RESULTS_URL": str(results),
                "SFUMATO_DATA": str(tmp_path / data),
                "SFUMATO_DEVICE": device,
                "SFUMATO_GRACE": "0",
                **variables,
            }
            process = subprocess.Popen(
                [sys.executable, "-m", "sfumato", "worker", "--tasks"],
                env={**os.environ, **environment},
            )
            started.enter_context(process)
            started.callback(process.kill)
            return process

        yield begin


async def _put(channel: AbstractChannel, queue: str, **body: object) -> None:
    """As the seed's clients do: no id, no persistence."""
    beneath = await channel.get_underlay_channel()
    properties = aio_pika.Message(b"").properties
    properties.message_id = " "
    await beneath.basic_publish(json.dumps(body).encode(), routing_key=queue, properties=properties)


async def _waiting(channel: AbstractChannel, queue: str) -> int:
    declared = await channel.declare_queue(queue, passive=True)
    return declared.declaration_result.message_count or 0


def _names(results: Path) -> list[str]:
    return sorted(path.name for path in results.iterdir()) if results.exists() else []


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


async def test_a_job_takes_one_task_writes_its_objects_and_ends(
    channel: AbstractChannel, tasks: str, start: Start, results: Path
) -> None:
    for _ in range(2):
        await _put(channel, tasks, prompt='a "red" castle', count=3)
    assert start("a", EXIT_AFTER_ONE_TASK="1").wait(PATIENCE) == 0
    names = _names(results)
    identity = names[-1].removesuffix(".json")
    assert names == [*(f"{identity}-{number}.png" for number in (1, 2, 3)), f"{identity}.json"]
    document = json.loads((results / names[-1]).read_text())
    assert document["prompt"] == 'a "red" castle'
    assert (document["number_of_images"], document["diffusion_task"]) == (3, "text_to_image")
    assert document["image_width"] > 0
    assert await _waiting(channel, tasks) == 1


def test_a_job_without_a_task_ends(start: Start) -> None:
    assert start("a", EXIT_AFTER_ONE_TASK="1").wait(PATIENCE) == 0


@pytest.mark.parametrize("second", ["a", "b"], ids=["same disk", "another disk"])
async def test_killed_in_mid_task_it_comes_again_and_writes_one_set_of_objects(
    channel: AbstractChannel, tasks: str, start: Start, results: Path, second: str
) -> None:
    await _put(channel, tasks, prompt="a castle", count=2)
    first = start("a", device="fake:0.2", SFUMATO_LEASE="2")
    working = results.parent / "working"
    _until(working.exists, "no task began")
    first.kill()
    first.wait(PATIENCE)
    assert _names(results) == []
    other = start(second, SFUMATO_LEASE="2")
    _until(lambda: any(name.endswith(".json") for name in _names(results)), "no result")
    _until(lambda: not working.exists(), "the flag stays")
    other.send_signal(signal.SIGTERM)
    assert other.wait(PATIENCE) == 0
    assert len(_names(results)) == 3
    assert await _waiting(channel, tasks) == 0


async def test_told_to_stop_it_releases_what_it_can_not_finish(
    channel: AbstractChannel, tasks: str, start: Start, results: Path
) -> None:
    await _put(channel, tasks, prompt="a castle", count=2)
    working = results.parent / "working"
    worker = start("a", device="fake:0.5")
    _until(working.exists, "no task began")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE) == 0
    assert await _waiting(channel, tasks) == 1
    assert _names(results) == []
    assert not working.exists()
