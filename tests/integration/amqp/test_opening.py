"""What a wrong setting, a foreign queue or a foreign message leads to."""

from __future__ import annotations

import asyncio
import logging
from urllib.parse import urlsplit, urlunsplit

import aio_pika
import pytest

from sfumato.adapters.amqp import AmqpJobQueue
from sfumato.adapters.amqp.topology import delay_level
from sfumato.core.errors import StartupRefused
from sfumato.core.ports import QueueDepth, Ring
from tests.support.servers import PrivateRabbit

RUNTIME = "gpu"


def _changed(url: str, *, netloc: str | None = None, path: str | None = None) -> str:
    parts = urlsplit(url)
    return urlunsplit(
        parts._replace(
            netloc=parts.netloc if netloc is None else netloc,
            path=parts.path if path is None else path,
        )
    )


async def _refusal(url: str, **options: object) -> StartupRefused:
    with pytest.raises(StartupRefused) as caught:
        await AmqpJobQueue.open(url, **options)  # type: ignore[arg-type]
    assert caught.value.field == "queue_url"
    assert caught.value.accepted
    assert "hunter2" not in str(caught.value)
    return caught.value


async def test_nobody_at_the_address() -> None:
    refusal = await _refusal("amqp://guest:hunter2@127.0.0.1:1/")
    assert "127.0.0.1:1" in refusal.message
    assert "can't be reached" in refusal.message


async def test_a_wrong_password(rabbitmq_url: str) -> None:
    address = urlsplit(rabbitmq_url).netloc.rpartition("@")[2]
    refusal = await _refusal(_changed(rabbitmq_url, netloc=f"guest:hunter2@{address}"))
    assert "password" in refusal.message


async def test_a_virtual_host_that_is_not_there(rabbitmq_url: str) -> None:
    refusal = await _refusal(_changed(rabbitmq_url, path="/nowhere"))
    assert "'nowhere'" in refusal.message


async def test_a_queue_with_other_arguments(rabbitmq_url: str, prefix: str) -> None:
    async with await aio_pika.connect(rabbitmq_url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(f"{prefix}.{RUNTIME}", durable=False)
        refusal = await _refusal(rabbitmq_url, prefix=prefix, runtimes=[RUNTIME])
        assert f"{prefix}.{RUNTIME}" in refusal.message
        assert "other arguments" in refusal.message


async def test_a_user_without_permission(private_broker: PrivateRabbit) -> None:
    await asyncio.to_thread(private_broker.control, "add_user", "reader", "hunter2")
    await asyncio.to_thread(private_broker.control, "set_permissions", "reader", "^$", "^$", ".*")
    url = _changed(private_broker.url, netloc=f"reader:hunter2@127.0.0.1:{private_broker.port}")
    refusal = await _refusal(url, runtimes=[RUNTIME])
    assert "permission" in str(refusal.accepted)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"a castle at night",
        b"[]",
        b'{"prompt": "a castle"}',
        b'{"job_id": "j", "runtime": 7}',
        b'{"job_id": "j", "runtime": "gpu", "attempt": "first"}',
        b"\xff\xfe",
    ],
)
async def test_a_message_that_is_no_ring_is_set_aside_and_stays_there(
    rabbitmq_url: str, prefix: str, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    queue = await AmqpJobQueue.open(rabbitmq_url, prefix=prefix, runtimes=[RUNTIME])
    async with await aio_pika.connect(rabbitmq_url) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(prefix)
        await exchange.publish(aio_pika.Message(body), RUNTIME)
    await queue.ring(Ring("j", RUNTIME))
    delivery = await queue.receive([RUNTIME], visibility=30.0, timeout=30.0)
    assert delivery is not None
    assert delivery.ring.job_id == "j"
    await delivery.ack()
    reasons = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert any("is no ring" in reason for reason in reasons)
    assert not any("castle" in reason for reason in reasons)
    for _ in range(2):
        while (depth := await queue.depth(RUNTIME)).dead != 1:
            await asyncio.sleep(0.01)
        assert depth == QueueDepth(ready=0, hidden=0, dead=1)
        assert await queue.redrive(RUNTIME) == 0
    await queue.close()


async def test_a_long_delay_does_not_hold_up_a_short_one(rabbitmq_url: str, prefix: str) -> None:
    queue = await AmqpJobQueue.open(rabbitmq_url, prefix=prefix, runtimes=[RUNTIME])
    await queue.ring(Ring("late", RUNTIME), delay=60.0)
    await queue.ring(Ring("soon", RUNTIME), delay=1.0)
    delivery = await queue.receive([RUNTIME], visibility=30.0, timeout=30.0)
    assert delivery is not None
    assert delivery.ring.job_id == "soon"
    await delivery.release(delay=1.0)
    again = await queue.receive([RUNTIME], visibility=30.0, timeout=30.0)
    assert again is not None
    assert (again.ring.job_id, again.deliveries) == ("soon", 2)
    await queue.close()


async def test_priorities_are_promised_only_where_the_server_keeps_them(
    rabbitmq_url: str, prefix: str
) -> None:
    queue = await AmqpJobQueue.open(rabbitmq_url, prefix=prefix)
    session = await queue._link.session(patience=0)
    assert queue.traits.priorities == (session.version >= (4, 3))
    await queue._declare(session, RUNTIME)
    await queue.close()


def test_delays_are_rounded_up() -> None:
    assert [delay_level(seconds) for seconds in (0.1, 1, 1.5, 60, 3600, 9999)] == [
        1,
        1,
        2,
        64,
        4096,
        4096,
    ]
