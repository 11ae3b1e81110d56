"""Many requests in one batch, against what else serves the same weights.

``python -m bench.engine [--rounds N] [--json FILE] [--plot FILE]`` (``make bench-engine``). All sides
run in turn, in one run, over the same starter weights: this service, bare diffusers one call after
another, diffusers with a static batch, and LitServe with dynamic batching. The last line is JSON, each
figure ours over the peer's:

- ``lone_latency``: one warm ``POST /generate`` over one bare call, 12 steps at 128 px.
- ``mixed_throughput``, ``mixed_short_p95``: 16 requests of 4 to 50 steps, four samplers and four
  guidances, arriving at random, over LitServe: pictures a second, and the 95th percentile of what the
  4-step requests wait; at 128 px, and at 256 px with the suffix ``_256``.
- ``alike_throughput``: 64 equal requests at once, over static batches of 16.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from bench.overhead import ANY_SIZE, PROMPT, bare, bare_pipeline, generate, pairs, ratio
from sfumato.bootstrap.models import STARTER
from tests.support.service import ServiceProcess

STEPS = (4, 4, 4, 4, 4, 8, 8, 12, 12, 16, 20, 20, 25, 30, 40, 50)
SAMPLERS = ("euler", "euler_a", "ddim", "dpmpp_2m")
GUIDANCES = (1.0, 3.5, 5.0, 7.5)
#: Seconds over which a round's 16 requests arrive: less than either side needs for them.
ARRIVALS = {128: 2.0, 256: 8.0}
ALIKE, STATIC_BATCH = 64, 16
SHORT = 4

Draw = Callable[[httpx.AsyncClient, dict[str, Any]], Awaitable[None]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="save the figures there")
    parser.add_argument("--plot", type=Path, help="save a picture of them there (needs matplotlib)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "data" / "models" / ANY_SIZE
        shutil.copytree(STARTER, model, ignore=shutil.ignore_patterns("sfumato*.json"))
        settings = {"device": "cpu", "log_level": "WARNING"}
        with (
            ServiceProcess(Path(folder) / "data", settings) as service,
            litserve_at(model) as peer,
        ):
            figures = measure(service, peer, given.rounds)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")
    if given.plot:
        plot(figures, given.plot)
    print(json.dumps(figures))


def measure(service: ServiceProcess, peer: str, rounds: int) -> dict[str, float]:
    pipeline = bare_pipeline()
    lone = pairs(
        lambda: generate(service, 128, seed=1), lambda: bare(pipeline, 128, seed=1), 2 * rounds
    )
    figures = {"lone_latency": ratio("a lone request", lone)}
    for size, suffix in ((128, ""), (256, "_256")):
        figures |= mixed(
            service, peer, size, suffix, rounds if size == 128 else max(1, rounds // 2)
        )
    alike = pairs(
        lambda: asyncio.run(ours_alike(service)),
        lambda: static_batches(pipeline),
        max(1, rounds // 2),
    )
    figures["alike_throughput"] = round(1 / ratio(f"{ALIKE} alike", alike), 3)
    return figures


# -- mixed requests, arriving at random ----------------------------------------------------------


def mixed(
    service: ServiceProcess, peer: str, size: int, suffix: str, rounds: int
) -> dict[str, float]:
    seconds: dict[str, list[float]] = {"sfumato": [], "litserve": []}
    short: dict[str, list[float]] = {"sfumato": [], "litserve": []}
    for number in range(rounds + 1):  # the first does not count
        requests = mix(number, size)
        for name, url, draw in (("sfumato", service.url, ours), ("litserve", peer, theirs)):
            took, waits = asyncio.run(arrive(url, requests, draw))
            if number:
                seconds[name].append(took)
                short[name] += waits
    throughput = statistics.median(seconds["litserve"]) / statistics.median(seconds["sfumato"])
    p95 = {name: percentile(waits, 0.95) for name, waits in short.items()}
    for name, times in seconds.items():
        print(
            f"16 mixed at {size} px, {name}: {statistics.median(times):.2f} s together, "
            f"4-step p95 {p95[name]:.2f} s"
        )
    return {
        f"mixed_throughput{suffix}": round(throughput, 3),
        f"mixed_short_p95{suffix}": round(p95["sfumato"] / p95["litserve"], 3),
    }


def mix(seed: int, size: int) -> list[tuple[float, dict[str, Any]]]:
    """(seconds after the start, request): the same for both sides of a round."""
    chance = random.Random(seed)  # noqa: S311 - the same arrivals every time
    steps = list(STEPS)
    chance.shuffle(steps)
    arrivals = sorted(chance.uniform(0, ARRIVALS[size]) for _ in steps)
    return [
        (
            at,
            {
                "prompt": PROMPT,
                "width": size,
                "height": size,
                "num_inference_steps": count,
                "guidance_scale": chance.choice(GUIDANCES),
                "sampler": chance.choice(SAMPLERS),
                "seed": index,
            },
        )
        for index, (at, count) in enumerate(zip(arrivals, steps, strict=True))
    ]


async def arrive(
    url: str, requests: list[tuple[float, dict[str, Any]]], draw: Draw
) -> tuple[float, list[float]]:
    """Seconds from the first arrival to the last picture, and what each 4-step request waited."""
    waits: list[float] = []

    async def one(client: httpx.AsyncClient, at: float, request: dict[str, Any]) -> None:
        await asyncio.sleep(at)
        asked = time.perf_counter()
        await draw(client, request)
        if request["num_inference_steps"] == SHORT:
            waits.append(time.perf_counter() - asked)

    async with httpx.AsyncClient(base_url=url, timeout=600) as client:
        began = time.perf_counter()
        await asyncio.gather(*(one(client, at, request) for at, request in requests))
        return time.perf_counter() - began - requests[0][0], waits


async def ours(client: httpx.AsyncClient, request: dict[str, Any]) -> None:
    answer = await client.post("/generate", json={**request, "model": ANY_SIZE})
    answer.raise_for_status()


async def theirs(client: httpx.AsyncClient, request: dict[str, Any]) -> None:
    (await client.post("/predict", json=request)).raise_for_status()


# -- alike requests, all at once -----------------------------------------------------------------


async def ours_alike(service: ServiceProcess) -> None:
    request = {"prompt": PROMPT, "width": 128, "height": 128, "num_inference_steps": 12}
    async with httpx.AsyncClient(base_url=service.url, timeout=600) as client:
        await asyncio.gather(
            *(ours(client, {**request, "guidance_scale": 3.5, "seed": n}) for n in range(ALIKE))
        )


def static_batches(pipeline: Any) -> None:
    import torch  # noqa: PLC0415 - seconds of import, not wanted by --help

    for first in range(0, ALIKE, STATIC_BATCH):
        seeds = range(first, first + STATIC_BATCH)
        pipeline(
            [PROMPT] * STATIC_BATCH,
            width=128,
            height=128,
            num_inference_steps=12,
            guidance_scale=3.5,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        )


# -- the peer, and the figures -------------------------------------------------------------------


@contextlib.contextmanager
def litserve_at(model: Path) -> Iterator[str]:
    """A LitServe process over the model, once it answers; ended with all its children."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.litserve_peer", str(model), str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/health").status_code == 200:
                    break
            time.sleep(0.2)
        yield url
    finally:
        end_family(process)


def end_family(process: subprocess.Popen[bytes]) -> None:
    import psutil  # noqa: PLC0415

    family = [psutil.Process(process.pid)]
    family += family[0].children(recursive=True)
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait(30)


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def plot(figures: dict[str, float], path: Path) -> None:
    from matplotlib import pyplot as plt  # noqa: PLC0415 - only when a picture is wanted

    names = list(figures)
    plt.figure(figsize=(8, 3))
    plt.barh(names, [figures[name] for name in names])
    plt.axvline(1.0, color="black", linewidth=1)
    plt.title("Sfumato over its peer")
    plt.tight_layout()
    plt.savefig(path)


if __name__ == "__main__":
    main()
