"""The broker dies, the network breaks, the event loop stalls: rings survive, receivers go on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import pytest

from sfumato.adapters.amqp import AmqpJobQueue
from sfumato.core.errors import Unavailable
from sfumato.core.ports import Delivery, QueueDepth, Ring
from tests.support.proxy import Proxy
from tests.support.servers import PrivateRabbit

RUNTIME = "gpu"
PATIENCE = 60.0


@contextlib.asynccontextmanager
async def _opened(url: str, prefix: str = "sfumato") -> AsyncIterator[AmqpJobQueue]:
    queue = await AmqpJobQueue.open(url, prefix=prefix, runtimes=[RUNTIME])
    try:
        yield queue
    finally:
        await queue.close()


async def _receive(queue: AmqpJobQueue, *, timeout: float = PATIENCE) -> Delivery:
    delivery = await queue.receive([RUNTIME], visibility=PATIENCE, timeout=timeout)
    assert delivery is not None
    return delivery


async def _ring(queue: AmqpJobQueue, name: str) -> None:
    """Ring, as often as it takes."""
    while True:
        try:
            return await queue.ring(Ring(name, RUNTIME))
        except Unavailable:
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("end", [PrivateRabbit.kill, PrivateRabbit.stop])
async def test_a_broker_that_comes_back_has_lost_nothing(
    private_broker: PrivateRabbit, end: Callable[[PrivateRabbit], None]
) -> None:
    async with _opened(private_broker.url, f"p{time.monotonic_ns()}") as queue:
        await queue.ring(Ring("held", RUNTIME))
        await queue.ring(Ring("waiting", RUNTIME))
        await queue.ring(Ring("delayed", RUNTIME), delay=8.0)
        held = await _receive(queue)
        # RabbitMQ 3.10, killed within a second of making a quorum queue, leaves it without a leader.
        await asyncio.sleep(2.0)
        await asyncio.to_thread(end, private_broker)

        with pytest.raises(Unavailable):
            await queue.ring(Ring("meanwhile", RUNTIME))
        with pytest.raises(Unavailable):
            await queue.receive([RUNTIME], visibility=PATIENCE, timeout=0)
        assert not await held.extend(PATIENCE)
        await held.ack()  # into nowhere, and harmless

        receiving = asyncio.create_task(_receive(queue))
        await asyncio.to_thread(private_broker.start)
        await _ring(queue, "after")
        names = {(await receiving).ring.job_id}
        while len(names) < 4:
            names.add((await _receive(queue)).ring.job_id)
        assert names == {"held", "waiting", "delayed", "after"}


async def test_a_cut_connection_is_made_anew_and_what_it_held_comes_again(
    rabbitmq_url: str, prefix: str
) -> None:
    async with Proxy(rabbitmq_url) as network, _opened(network.url, prefix) as queue:
        await queue.ring(Ring("j", RUNTIME))
        held = await _receive(queue)
        waiting = asyncio.create_task(_receive(queue))
        await asyncio.sleep(0)
        network.cut()
        while await held.extend(PATIENCE):
            await asyncio.sleep(0.01)
        network.resume()
        again = await waiting
        assert (again.ring.job_id, again.deliveries) == ("j", 2)
        await held.ack()
        await held.release()
        assert await again.extend(PATIENCE)
        await again.ack()
        assert await queue.depth(RUNTIME) == QueueDepth(ready=0, hidden=0)


async def test_a_receiver_told_to_stop_while_the_network_is_away_stops(
    rabbitmq_url: str, prefix: str
) -> None:
    async with Proxy(rabbitmq_url) as network, _opened(network.url, prefix) as queue:
        network.cut()
        receiving = asyncio.create_task(_receive(queue))
        while not network.connections:
            await asyncio.sleep(0.01)
        receiving.cancel()
        started = time.monotonic()
        await asyncio.wait([receiving])
        assert receiving.cancelled()
        assert time.monotonic() - started < PATIENCE / 2


async def test_a_network_that_swallows_everything_is_noticed(
    rabbitmq_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("job_queue", "link", "receiving"):
        monkeypatch.setattr(f"sfumato.adapters.amqp.{module}.ANSWER_SECONDS", 0.5)
    async with Proxy(rabbitmq_url) as network, _opened(network.url, prefix) as queue:
        await queue.ring(Ring("before", RUNTIME))
        before = network.connections
        network.stall()
        with pytest.raises(Unavailable):
            await queue.receive([RUNTIME], visibility=PATIENCE, timeout=0)
        network.resume()
        assert (await _receive(queue)).ring.job_id == "before"
        assert network.connections > before


async def test_heartbeats_survive_an_event_loop_that_others_block(
    rabbitmq_url: str, prefix: str
) -> None:
    async with Proxy(rabbitmq_url) as network, _opened(network.url, prefix) as queue:
        await queue.ring(Ring("j", RUNTIME))
        held = await _receive(queue)
        connections = network.connections
        time.sleep(3.0)  # noqa: ASYNC251 - this is the fault
        assert await held.extend(PATIENCE)
        await held.ack()
        assert await queue.depth(RUNTIME) == QueueDepth(ready=0, hidden=0)
        assert network.connections == connections


async def test_a_channel_that_the_broker_closes_takes_no_other_job_with_it(
    rabbitmq_url: str, prefix: str
) -> None:
    async with _opened(rabbitmq_url, prefix) as queue:
        for name in ("a", "b"):
            await queue.ring(Ring(name, RUNTIME))
        first, second = await _receive(queue), await _receive(queue)
        # As after a consumer timeout: an error of the broker's on the one channel.
        beneath = await first._hold.channel.get_underlay_channel()  # type: ignore[attr-defined]
        await beneath.basic_ack(delivery_tag=4711)
        while await first.extend(PATIENCE):
            await asyncio.sleep(0.01)
        assert await second.extend(PATIENCE)
        assert (await _receive(queue)).ring.job_id == "a"


async def test_queues_that_somebody_deleted_are_made_again(rabbitmq_url: str, prefix: str) -> None:
    async with _opened(rabbitmq_url, prefix) as queue:
        waiting = asyncio.create_task(_receive(queue))
        session = await queue._link.session(patience=0)
        while not (await _consumers(session, f"{prefix}.{RUNTIME}")):
            await asyncio.sleep(0.01)
        async with session.private_channel() as channel:
            await channel.queue_delete(f"{prefix}.{RUNTIME}")
        await queue.ring(Ring("j", RUNTIME))
        assert (await waiting).ring.job_id == "j"


async def _consumers(session: object, queue: str) -> int:
    async with session.private_channel() as channel:  # type: ignore[attr-defined]
        found = await channel.declare_queue(queue, passive=True)
        return int(found.declaration_result.consumer_count)
