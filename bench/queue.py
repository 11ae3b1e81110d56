"""How fast the durable queue is: submissions, claims and finishes a second, and how soon a waiting
worker hears of a job. Run it as ``python -m bench.queue``; it needs no network and no GPU. With
``--queue-url amqp://…`` the doorbell is RabbitMQ's, under a prefix of its own, and the jobs are in
SQLite still, or wherever ``--database-url`` says: a database that the benchmark may fill.

Every submission is on the disk when it is counted, as it is when the service answers 202.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import secrets
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NamedTuple

import aio_pika

from sfumato.adapters.amqp import AmqpJobQueue
from sfumato.adapters.amqp.topology import Topology, prefix_in
from sfumato.adapters.sql import Database, SqlJobQueue, SqlJobStore
from sfumato.bootstrap.parts import SystemClock
from sfumato.core.ids import new_job_id
from sfumato.core.job import ImageRecord, Job, JobStatus, Settings, Timings, image_key
from sfumato.core.ports import JobQueue, Ring
from sfumato.core.request import GenerationRequest, OutputFormat

JOBS = 2000
SUBMITTERS = 64
RECEIVERS = 16
LATENCY_SAMPLES = 60
RUNTIME = "default"


class Place(NamedTuple):
    """Where jobs are kept, and what rings; None: in the same database."""

    database_url: str
    queue_url: str | None = None


class House:
    """A store and a queue on one database, as the service and each worker have them."""

    def __init__(self, database: Database, queue: JobQueue) -> None:
        self.database = database
        self.store = SqlJobStore(database)
        self.queue = queue

    @classmethod
    async def open(cls, place: Place) -> House:
        database = Database.open(place.database_url)
        if place.queue_url is None:
            return cls(database, SqlJobQueue(database, SystemClock()))
        return cls(database, await AmqpJobQueue.open(place.queue_url, runtimes=[RUNTIME]))

    async def close(self) -> None:
        await self.queue.close()
        await self.database.close()

    async def submit(self) -> str:
        now = time.time()
        job = Job(
            id=new_job_id(now),
            request=GenerationRequest("a lighthouse above the sea at dusk", priority=0),
            settings=Settings("starter", 512, 512, 128, 128, 25, 5.0, "dpmpp_2m", seed=7),
            runtime=RUNTIME,
            status=JobStatus.QUEUED,
            created_at=now,
            rung_at=now,
        )
        await self.store.create(job)
        await self.queue.ring(Ring(job.id, RUNTIME))
        return job.id

    async def work(self, *, timeout: float) -> str | None:
        """Receive, claim, finish, acknowledge one job; None when nothing came."""
        delivery = await self.queue.receive([RUNTIME], visibility=60.0, timeout=timeout)
        if delivery is None:
            return None
        now = time.time()
        job = await self.store.claim(
            delivery.ring.job_id, worker="bench", now=now, lease_until=now + 60.0
        )
        assert job is not None
        key = image_key(job.id, 0, OutputFormat.PNG)
        image = ImageRecord(0, key, "image/png", 512, 512, 300_000, "0" * 64, 7)
        await self.store.finish(
            job.id,
            job.attempt,
            status=JobStatus.SUCCEEDED,
            now=time.time(),
            images=[image],
            timings=Timings(0.1, 0.0, 0.0, 1.0, 0.1),
        )
        await delivery.ack()
        return job.id


async def rate(count: int, callers: int, call: Callable[[], Awaitable[str | None]]) -> float:
    """Calls a second, with ``callers`` of them under way at once."""

    async def repeat() -> None:
        for _ in range(count // callers):
            assert await call() is not None

    start = time.perf_counter()
    await asyncio.gather(*(repeat() for _ in range(callers)))
    return count // callers * callers / (time.perf_counter() - start)


async def throughput(place: Place) -> tuple[float, float]:
    house = await House.open(place)
    submitted = await rate(JOBS, SUBMITTERS, house.submit)
    worked = await rate(JOBS // 2, RECEIVERS, lambda: house.work(timeout=5.0))
    while await house.work(timeout=0.0) is not None:
        pass
    await house.close()
    return submitted, worked


def idle_worker(place: Place, ready: Event, stop: Event) -> None:
    """Another process that waits for jobs and claims each at once."""

    async def claim_until_stopped() -> None:
        house = await House.open(place)
        ready.set()
        while not stop.is_set():
            await house.work(timeout=0.5)
        await house.close()

    asyncio.run(claim_until_stopped())


async def latencies(place: Place) -> list[float]:
    """Seconds from the start of a submission to its claim by an idle worker's process."""
    context = multiprocessing.get_context("spawn")
    ready, stop = context.Event(), context.Event()
    worker = context.Process(target=idle_worker, args=(place, ready, stop))
    worker.start()
    house = await House.open(place)
    try:
        await asyncio.to_thread(ready.wait, 60)
        samples = []
        for _ in range(LATENCY_SAMPLES):
            await asyncio.sleep(
                0.05
            )  # so that the worker is idle, and at no fixed phase of its wait
            submitted = time.time()
            job_id = await house.submit()
            while (job := await house.store.get(job_id)).started_at is None:
                await asyncio.sleep(0.005)
            samples.append(job.started_at - submitted)
        return samples
    finally:
        stop.set()
        await house.close()
        worker.join(30)


async def forget_queues(url: str) -> None:
    """Delete what the benchmark made in RabbitMQ."""
    names = Topology(prefix_in(url), 1)
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        for queue in names.queues(RUNTIME):
            await channel.queue_delete(queue)
        for exchange in (names.exchange, names.dead_exchange):
            await channel.exchange_delete(exchange)


def with_own_prefix(url: str) -> str:
    """The broker's URL with a prefix that no service uses."""
    return f"{url}{'&' if '?' in url else '?'}prefix=bench-{secrets.token_hex(4)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database-url", help="left out: SQLite in a temporary folder")
    parser.add_argument("--queue-url", help="amqp://…; left out: in the database")
    given = parser.parse_args()
    queue_url = given.queue_url and with_own_prefix(given.queue_url)
    bars = (500, 300, 25 if queue_url is None and given.database_url is None else 15)
    with tempfile.TemporaryDirectory(prefix="sfumato-bench-") as folder:
        places = [
            Place(given.database_url or f"sqlite:///{Path(folder) / name}", queue_url)
            for name in ("rates.db", "latency.db")
        ]
        try:
            submitted, worked = asyncio.run(throughput(places[0]))
            samples = asyncio.run(latencies(places[1]))
        finally:
            if queue_url is not None:
                asyncio.run(forget_queues(queue_url))
    report(submitted, worked, samples, bars)


def report(
    submitted: float, worked: float, samples: list[float], bars: tuple[int, int, int]
) -> None:
    middle = statistics.median(samples) * 1000
    slowest = statistics.quantiles(samples, n=20)[-1] * 1000
    print(f"{'':34}{'measured':>10}{'target':>10}")
    print(
        f"{f'durable submissions, {SUBMITTERS} at once':34}{submitted:8.0f}/s{f'≥ {bars[0]}/s':>10}"
    )
    print(f"{f'claim + finish, {RECEIVERS} at once':34}{worked:8.0f}/s{f'≥ {bars[1]}/s':>10}")
    print(f"{'submitted to claimed, idle, p50':34}{middle:7.1f} ms{f'≤ {bars[2]} ms':>10}")
    print(f"{'submitted to claimed, idle, p95':34}{slowest:7.1f} ms")
    print(
        json.dumps(
            {
                "submissions_per_second": round(submitted, 1),
                "claim_finish_per_second": round(worked, 1),
                "claim_latency_p50_ms": round(middle, 2),
            }
        )
    )


if __name__ == "__main__":
    main()
