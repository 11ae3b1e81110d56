"""How fast the durable queue is: submissions, claims and finishes a second, and how soon a waiting
worker hears of a job. Run it as ``python -m bench.queue``; it needs no network and no GPU.

Every submission is on the disk when it is counted, as it is when the service answers 202.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from multiprocessing.synchronize import Event
from pathlib import Path

from sfumato.adapters.sql import Database, SqlJobQueue, SqlJobStore
from sfumato.bootstrap.parts import SystemClock
from sfumato.core.ids import new_job_id
from sfumato.core.job import ImageRecord, Job, JobStatus, Settings, Timings, image_key
from sfumato.core.ports import Ring
from sfumato.core.request import GenerationRequest, OutputFormat

JOBS = 2000
SUBMITTERS = 64
RECEIVERS = 16
LATENCY_SAMPLES = 60
RUNTIME = "default"


class House:
    """A store and a queue on one database, as the service and each worker have them."""

    def __init__(self, url: str) -> None:
        self.database = Database.open(url)
        self.store = SqlJobStore(self.database)
        self.queue = SqlJobQueue(self.database, SystemClock())

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


async def throughput(url: str) -> tuple[float, float]:
    house = House(url)
    submitted = await rate(JOBS, SUBMITTERS, house.submit)
    worked = await rate(JOBS // 2, RECEIVERS, lambda: house.work(timeout=5.0))
    while await house.work(timeout=0.0) is not None:
        pass
    await house.database.close()
    return submitted, worked


def idle_worker(url: str, ready: Event, stop: Event) -> None:
    """Another process that waits for jobs and claims each at once."""

    async def claim_until_stopped() -> None:
        house = House(url)
        ready.set()
        while not stop.is_set():
            await house.work(timeout=0.5)
        await house.database.close()

    asyncio.run(claim_until_stopped())


async def latencies(url: str) -> list[float]:
    """Seconds from the start of a submission to its claim by an idle worker's process."""
    context = multiprocessing.get_context("spawn")
    ready, stop = context.Event(), context.Event()
    worker = context.Process(target=idle_worker, args=(url, ready, stop))
    worker.start()
    house = House(url)
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
        await house.database.close()
        worker.join(30)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="sfumato-bench-") as folder:
        submitted, worked = asyncio.run(throughput(f"sqlite:///{Path(folder) / 'rates.db'}"))
        samples = asyncio.run(latencies(f"sqlite:///{Path(folder) / 'latency.db'}"))
    middle = statistics.median(samples) * 1000
    slowest = statistics.quantiles(samples, n=20)[-1] * 1000
    print(f"{'':34}{'measured':>10}{'target':>10}")
    print(f"{f'durable submissions, {SUBMITTERS} at once':34}{submitted:8.0f}/s{'≥ 500/s':>10}")
    print(f"{f'claim + finish, {RECEIVERS} at once':34}{worked:8.0f}/s{'≥ 300/s':>10}")
    print(f"{'submitted to claimed, idle, p50':34}{middle:7.1f} ms{'≤ 25 ms':>10}")
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
