"""The service over HTTP: submissions, status reads, memory over many requests, idle watchers.

Run it as ``python -m bench.http [--database-url postgresql://…] [--requests N]``
(``make bench-http``); the last line is JSON. 64 clients keep a connection each:

- ``submissions_per_second``, ``submissions_p99``: ``POST /v1/jobs`` until its 202, jobs on the disk.
- ``reads_per_second``, ``reads_p99``: ``GET /v1/jobs/{id}`` of those jobs.
- ``growth_mb``: resident memory of the service after so many requests, above what it was after a
  tenth of them.
- ``watchers_mb``: what 1,000 idle watchers of a queued job's events add to it.

The service has no worker, so that only itself is measured. The client is a few lines of raw HTTP: it
shares the two cores with the service, and must leave it most.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import resource
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from tests.support.service import ServiceProcess

CLIENTS, WATCHERS = 64, 1000
SUBMISSIONS, REQUESTS = 6_400, 100_000
BODY = json.dumps({"prompt": "a lighthouse above the sea at dusk", "seed": 7}).encode()


@dataclass
class Measured:
    """What a number of requests took, in seconds."""

    whole: float = 0.0
    each: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.each) / self.whole

    @property
    def p99(self) -> float:
        return statistics.quantiles(self.each, n=100)[98]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database-url", help="an empty database; SQLite when left out")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="for the look at memory")
    given = parser.parse_args()
    settings = {"max_workers": 0, "max_queued": SUBMISSIONS * 2, "log_level": "WARNING"}
    if given.database_url:
        settings["database_url"] = given.database_url
    _allow_connections(WATCHERS + CLIENTS)
    with (
        tempfile.TemporaryDirectory(prefix="sfumato-bench-") as folder,
        ServiceProcess(Path(folder), settings) as service,
    ):
        figures = asyncio.run(measure(service, given.requests))
    print(json.dumps({name: round(figure, 3) for name, figure in figures.items()}))


async def measure(service: ServiceProcess, requests: int) -> dict[str, float]:
    """Every figure, by its name."""
    client = Client(service.url)
    await client.submit(CLIENTS * 4)  # what does not count
    submitted = await client.submit(SUBMISSIONS)
    print(
        f"durable submissions: {submitted.rate:.0f}/s (≥ 300), p99 {submitted.p99:.3f} s (≤ 0.25)"
    )
    read = await client.read(SUBMISSIONS * 2)
    print(f"status reads: {read.rate:.0f}/s (≥ 1,000), p99 {read.p99:.3f} s (≤ 0.25)")
    await client.read(requests // 10)
    before = memory(service)
    await client.read(requests - requests // 10)
    growth = memory(service) - before
    print(f"memory: {before:.0f} MB, and {growth:+.1f} MB after {requests:,} requests (flat)")
    before = memory(service)
    async with client.watching(WATCHERS):
        watchers = memory(service) - before
    print(f"{WATCHERS:,} idle watchers: {watchers:+.0f} MB (< 300)")
    return {
        "submissions_per_second": submitted.rate,
        "submissions_p99": submitted.p99,
        "reads_per_second": read.rate,
        "reads_p99": read.p99,
        "growth_mb": growth,
        "watchers_mb": watchers,
    }


def memory(service: ServiceProcess) -> float:
    """Resident, of the service's own process, in MB."""
    resident: int = psutil.Process(service.process.pid).memory_info().rss
    return resident / 1e6


class Client:
    """64 clients of a service, and the jobs that they have made."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname, parts.port
        self._netloc = parts.netloc
        self._jobs: list[str] = []

    async def submit(self, count: int) -> Measured:
        request = self._head("POST", "/v1/jobs", f"Content-Length: {len(BODY)}\r\n") + BODY

        def keep(answer: bytes) -> None:
            self._jobs.append(json.loads(answer)["id"])

        return await self._ask(itertools.repeat(request, count), b"202", keep)

    async def read(self, count: int) -> Measured:
        heads = [self._head("GET", f"/v1/jobs/{job}") for job in self._jobs]
        return await self._ask(itertools.islice(itertools.cycle(heads), count), b"200")

    @contextlib.asynccontextmanager
    async def watching(self, count: int) -> AsyncIterator[None]:
        """So many streams of events, each of which has told its first."""
        async with contextlib.AsyncExitStack() as stack:
            for job in itertools.islice(itertools.cycle(self._jobs), count):
                reader, writer = await asyncio.open_connection(self._host, self._port)
                stack.callback(writer.close)
                writer.write(self._head("GET", f"/v1/jobs/{job}/events"))
                await reader.readuntil(b"event: queued")
            yield

    async def _ask(
        self, requests: Iterator[bytes], status: bytes, keep: Callable[[bytes], None] | None = None
    ) -> Measured:
        measured = Measured()

        async def one_client() -> None:
            reader, writer = await asyncio.open_connection(self._host, self._port)
            for request in requests:
                began = time.perf_counter()
                writer.write(request)
                answer = await _answer(reader, status)
                measured.each.append(time.perf_counter() - began)
                if keep is not None:
                    keep(answer)
            writer.close()
            await writer.wait_closed()

        began = time.perf_counter()
        await asyncio.gather(*(one_client() for _ in range(CLIENTS)))
        measured.whole = time.perf_counter() - began
        return measured

    def _head(self, method: str, path: str, more: str = "") -> bytes:
        line = f"{method} {path} HTTP/1.1\r\nHost: {self._netloc}\r\n"
        return f"{line}Content-Type: application/json\r\n{more}\r\n".encode()


async def _answer(reader: asyncio.StreamReader, status: bytes) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status), head
    (length,) = (
        int(line.partition(b":")[2])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length")
    )
    return await reader.readexactly(length)


def _allow_connections(count: int) -> None:
    """For this process and the service that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(count * 2, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    main()
