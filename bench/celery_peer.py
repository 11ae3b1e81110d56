"""The durable queue beside Celery, on one RabbitMQ: no-op jobs, acknowledged late, results kept.

``python -m bench.celery_peer [--queue-url amqp://…] [--database-url postgresql://…]``. Both sides do
the same: submit all jobs with confirmed, persistent messages; then one worker process with 16 jobs
under way takes them to their end, and keeps each result in a database, SQLite when none is given.
Celery may prefetch; we take what there is room for. We keep the request in the database too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aio_pika
from celery import Celery

from bench.queue import House, Place, forget_queues, with_own_prefix

JOBS = 1600
UNDER_WAY = 16
PATIENCE = 120.0
URL = "amqp://guest:guest@127.0.0.1:5672/"

app = Celery(
    "peer",
    broker=os.environ.get("PEER_BROKER", URL),
    backend=os.environ.get("PEER_RESULTS", "db+sqlite://"),
)
app.conf.update(
    task_acks_late=True,
    task_default_queue=os.environ.get("PEER_QUEUE", "peer"),
    task_serializer="json",
    broker_transport_options={"confirm_publish": True},
    worker_hijack_root_logger=False,
)


@app.task(name="no_op")
def no_op(number: int) -> int:
    return number


async def ours(place: Place) -> tuple[float, float]:
    """Seconds to submit all, and to work them off."""
    house = await House.open(place)
    start = time.perf_counter()

    async def submit() -> None:
        for _ in range(JOBS // UNDER_WAY):
            await house.submit()

    await asyncio.gather(*(submit() for _ in range(UNDER_WAY)))
    submitted = time.perf_counter() - start
    start = time.perf_counter()

    async def work() -> None:
        for _ in range(JOBS // UNDER_WAY):
            assert await house.work(timeout=PATIENCE) is not None

    await asyncio.gather(*(work() for _ in range(UNDER_WAY)))
    worked = time.perf_counter() - start
    await house.close()
    return submitted, worked


def theirs() -> tuple[float, float]:
    """As above, from the first job's end to the last's, so that its start is not counted."""
    start = time.perf_counter()
    with ThreadPoolExecutor(UNDER_WAY) as threads:
        results = list(threads.map(no_op.delay, range(JOBS)))
    submitted = time.perf_counter() - start
    with _worker():
        for result in results:
            result.get(timeout=PATIENCE, interval=0.05)
        ends = [result.date_done for result in results]
    return submitted, (max(ends) - min(ends)).total_seconds()


@contextlib.contextmanager
def _worker() -> Iterator[None]:
    options = ["--pool=threads", f"--concurrency={UNDER_WAY}", "--loglevel=ERROR"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    command = [sys.executable, "-m", "celery", "-A", "bench.celery_peer", "worker"]
    with subprocess.Popen([*command, *options, *quiet], stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()
            process.wait(PATIENCE)


async def _forget(url: str, queue: str) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.queue_delete(queue)
        await channel.exchange_delete(queue)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queue-url", default=URL)
    parser.add_argument("--database-url", help="a database that the benchmark may fill")
    given = parser.parse_args()
    url = given.queue_url
    name = f"peer-{secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory(prefix="sfumato-bench-") as folder:
        jobs, results = given.database_url, given.database_url
        if jobs is None:
            jobs, results = (f"sqlite:///{Path(folder) / kind}.db" for kind in ("jobs", "results"))
        place = Place(jobs, with_own_prefix(url))
        try:
            our_submit, our_work = asyncio.run(ours(place))
        finally:
            asyncio.run(forget_queues(place.queue_url or url))
        results = "db+" + results.replace("postgresql://", "postgresql+psycopg://")
        os.environ.update(PEER_BROKER=url, PEER_RESULTS=results, PEER_QUEUE=name)
        app.conf.update(broker_url=url, result_backend=results, task_default_queue=name)
        try:
            their_submit, their_work = theirs()
        finally:
            asyncio.run(_forget(url, name))
    rates = {
        "sfumato_submissions_per_second": JOBS / our_submit,
        "celery_submissions_per_second": JOBS / their_submit,
        "sfumato_jobs_per_second": JOBS / our_work,
        "celery_jobs_per_second": JOBS / their_work,
        "ratio": their_work / our_work,
    }
    for what, rate in rates.items():
        print(f"{what.replace('_', ' '):36}{rate:10.1f}")
    print(json.dumps({what: round(rate, 2) for what, rate in rates.items()}))


if __name__ == "__main__":
    main()
