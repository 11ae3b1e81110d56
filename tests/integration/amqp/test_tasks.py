"""The queue of another system, as its clients fill it: taken, adopted, set aside."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import AsyncIterator

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel

from sfumato.adapters.amqp import AmqpTaskSource, FlatTaskSink
from sfumato.adapters.memory import MemoryImageStore
from sfumato.core.job import JobError
from sfumato.core.ports import Task, TaskDelivery
from sfumato.core.request import GenerationRequest

PATIENCE = 30.0


@pytest.fixture
async def channel(rabbitmq_url: str) -> AsyncIterator[AbstractChannel]:
    async with await aio_pika.connect(rabbitmq_url) as connection:
        yield await connection.channel()


@pytest.fixture
async def tasks(channel: AbstractChannel) -> AsyncIterator[str]:
    """Name of a queue that nobody has made yet; gone after the test."""
    name = f"tasks-{secrets.token_hex(4)}"
    yield name
    await channel.queue_delete(name)
    await channel.queue_delete(f"{name}.dead")


@pytest.fixture
async def source(rabbitmq_url: str, tasks: str) -> AsyncIterator[AmqpTaskSource]:
    source = await AmqpTaskSource.open(rabbitmq_url, queue=tasks)
    yield source
    await source.close()


async def _put(channel: AbstractChannel, queue: str, body: object, **properties: str) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    beneath = await channel.get_underlay_channel()
    exchange = channel.default_exchange
    if properties:
        await exchange.publish(aio_pika.Message(data, **properties), queue)  # type: ignore[arg-type]
        return
    # The library gives every message an id; the seed's clients do not.
    empty = aio_pika.Message(data).properties
    empty.message_id = " "
    await beneath.basic_publish(data, routing_key=queue, properties=empty)


async def _take(source: AmqpTaskSource) -> TaskDelivery:
    delivery = await source.receive(visibility=PATIENCE, timeout=PATIENCE)
    assert delivery is not None
    return delivery


async def test_a_task_gets_an_id_that_stays_with_it(
    source: AmqpTaskSource, channel: AbstractChannel, tasks: str
) -> None:
    await _put(channel, tasks, {"prompt": "a castle", "count": 3})
    first = await _take(source)
    assert re.fullmatch(r"[0-9a-f-]{36}", first.task.id)
    assert (first.task.request.prompt, first.task.request.num_images) == ("a castle", 3)
    await first.release()
    again = await _take(source)
    assert again.task == first.task  # with its seed, so a second worker draws the same
    await again.ack()
    assert await source.receive(visibility=PATIENCE, timeout=0) is None


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"traceparent": "00-ab-cd-01", "other": 1}, {"traceparent": "00-ab-cd-01"}),
        ({"traceparent": 7}, {}),
        ({}, {}),
    ],
)
async def test_a_trace_goes_on_with_a_task(
    source: AmqpTaskSource,
    channel: AbstractChannel,
    tasks: str,
    headers: dict[str, str | int],
    expected: dict[str, str],
) -> None:
    """Also where it has to be given an id first."""
    for identity in (" ", "t-1"):
        body = json.dumps({"prompt": "a castle"}).encode()
        message = aio_pika.Message(body, message_id=identity, headers=dict(headers))
        await channel.default_exchange.publish(message, tasks)
        delivery = await _take(source)
        assert delivery.task.headers == expected
        await delivery.ack()


async def test_twins_are_two_tasks(
    source: AmqpTaskSource, channel: AbstractChannel, tasks: str
) -> None:
    for _ in range(2):
        await _put(channel, tasks, {"prompt": "a castle", "count": 1})
    one, two = await _take(source), await _take(source)
    assert one.task.id != two.task.id


@pytest.mark.parametrize("count", [None, "many", 0, -1, True, 1.5])
async def test_a_count_that_is_none_is_one(
    source: AmqpTaskSource, channel: AbstractChannel, tasks: str, count: object
) -> None:
    await _put(channel, tasks, {"prompt": "a castle", "count": count})
    assert (await _take(source)).task.request.num_images == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\xff", "not JSON"),
        ({"count": 1}, "no JSON object with a prompt"),
        ({"prompt": "  "}, "prompt is empty"),
        ({"prompt": "secret", "count": 1000}, "num_images"),
    ],
)
async def test_what_is_no_task_is_set_aside_with_its_reason(
    source: AmqpTaskSource,
    channel: AbstractChannel,
    tasks: str,
    body: object,
    reason: str,
) -> None:
    await _put(channel, tasks, body)
    await _put(channel, tasks, {"prompt": "a castle"})
    assert (await _take(source)).task.request.prompt == "a castle"
    dead = await channel.get_queue(f"{tasks}.dead")
    message = await dead.get()
    assert reason in str(message.headers["sfumato-reason"])
    assert "secret" not in str(message.headers)
    await message.ack()


@pytest.mark.parametrize(
    ("durable", "arguments"),
    [(False, {}), (True, {}), (True, {"x-queue-type": "quorum"}), (True, {"x-max-priority": 5})],
)
async def test_the_queue_is_used_as_its_owner_made_it(
    rabbitmq_url: str,
    channel: AbstractChannel,
    tasks: str,
    durable: bool,
    arguments: dict[str, str],
) -> None:
    await channel.declare_queue(tasks, durable=durable, arguments=arguments)  # type: ignore[arg-type]
    await _put(channel, tasks, {"prompt": "a castle"})
    source = await AmqpTaskSource.open(rabbitmq_url, queue=tasks)
    delivery = await _take(source)
    await source.close()  # as a crash: it comes again, to anybody
    other = await AmqpTaskSource.open(rabbitmq_url, queue=tasks)
    again = await _take(other)
    assert again.task.id == delivery.task.id
    await again.ack()
    await other.close()


async def test_missing_the_queue_is_made_as_the_seed_makes_it(
    source: AmqpTaskSource, channel: AbstractChannel, tasks: str
) -> None:
    await channel.declare_queue(tasks, durable=False)  # another declaration would be refused


async def test_not_extended_a_task_comes_again(
    source: AmqpTaskSource, channel: AbstractChannel, tasks: str
) -> None:
    await _put(channel, tasks, {"prompt": "a castle"})
    first = await source.receive(visibility=0.2, timeout=PATIENCE)
    assert first is not None
    again = await _take(source)
    assert again.task.id == first.task.id
    assert not await first.extend(PATIENCE)
    await first.ack()
    assert await again.extend(PATIENCE)


async def test_told_to_stop_it_takes_no_task_with_it(
    source: AmqpTaskSource, channel: AbstractChannel, tasks: str
) -> None:
    receiving = asyncio.create_task(_take(source))
    await asyncio.sleep(0)
    await _put(channel, tasks, {"prompt": "a castle"})
    if not receiving.cancel():
        await receiving.result().release()
    await asyncio.wait([receiving])
    assert (await _take(source)).task.request.prompt == "a castle"


async def test_a_failure_is_told_beside_the_pictures_place() -> None:
    images = MemoryImageStore()
    task = Task("t", GenerationRequest("a castle"))
    await FlatTaskSink(images).failed(task, JobError("out_of_memory", "Too large."))
    document = json.loads((await images.get("t.json")).data)
    assert document["error"] == {"code": "out_of_memory", "message": "Too large."}
