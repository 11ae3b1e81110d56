"""Durable submissions a second over HTTP: ``POST /v1/jobs`` until its 202, jobs on the disk.

Run it as ``python -m bench.submissions [--database-url postgresql://…]``; the last line is JSON. The
service has no worker, so that only submissions are measured. The client is a few lines of raw HTTP
over keep-alive connections: it shares the two cores with the service, and must leave it most.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.service import ServiceProcess

REQUESTS, CONNECTIONS = 3000, 32
BODY = json.dumps({"prompt": "a lighthouse above the sea at dusk", "seed": 7}).encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database-url", help="an empty database; SQLite when left out")
    given = parser.parse_args()
    settings = {"max_workers": 0, "max_queued": REQUESTS * 2, "log_level": "WARNING"}
    if given.database_url:
        settings["database_url"] = given.database_url
    with (
        tempfile.TemporaryDirectory(prefix="sfumato-bench-") as folder,
        ServiceProcess(Path(folder), settings) as service,
    ):
        asyncio.run(submit(service.url, CONNECTIONS * 4))  # what does not count
        rate = asyncio.run(submit(service.url, REQUESTS))
    kind = "PostgreSQL" if given.database_url else "SQLite"
    print(f"durable submissions over HTTP on {kind}, {CONNECTIONS} at once: {rate:.0f}/s (≥ 500/s)")
    print(json.dumps({f"http_submissions_per_second_{kind.lower()}": round(rate, 1)}))


async def submit(url: str, count: int) -> float:
    """Requests a second."""
    parts = urlsplit(url)
    head = (
        f"POST /v1/jobs HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
    ).encode()

    async def one_connection() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        for _ in range(count // CONNECTIONS):
            writer.write(head + BODY)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 202"), answer
            (length,) = (
                int(line.partition(b":")[2])
                for line in answer.lower().split(b"\r\n")
                if line.startswith(b"content-length")
            )
            await reader.readexactly(length)
        writer.close()
        await writer.wait_closed()

    began = time.perf_counter()
    await asyncio.gather(*(one_connection() for _ in range(CONNECTIONS)))
    return count // CONNECTIONS * CONNECTIONS / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
