"""What the service costs over a bare diffusers pipeline, and what its shared batch gains.

Both sides draw with the same weights on the same machine in one run, in turn, so that the ratios
hold on a noisy machine. Run it as ``python -m bench.overhead``; the last line is JSON.

- ``overhead``: one warm ``POST /generate`` over one call of the bare pipeline; lower is better.
- ``throughput_128``, ``throughput_256``: 8 requests at once through the service, over 8 calls of
  the bare pipeline one after another; higher is better.
- ``cold``: ``sfumato generate`` over a bare script that imports, loads and draws, each in a process
  of its own; lower is better.
- ``healthz_seconds``: from the start of the service to its first answer, while a model is loading.
- ``api_imports_torch``: whether libtorch is mapped into the service's process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from sfumato.bootstrap.models import STARTER
from tests.support.service import ServiceProcess

PROMPT = "a castle in the hills at night"
#: The starter's weights without its list of sizes, so that both sides really draw at 256 px.
ANY_SIZE = "any-size"
STEPS, GUIDANCE = 12, 3.5
REQUESTS = 8

BARE_SCRIPT = f"""
import torch, diffusers
pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
    {str(STARTER)!r}, dtype=torch.float32, safety_checker=None)
pipeline.set_progress_bar_config(disable=True)
pipeline({PROMPT!r}, num_inference_steps={STEPS}, guidance_scale={GUIDANCE},
         generator=torch.Generator().manual_seed(1)).images[0].save("picture.png")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="counted rounds of each figure")
    parser.add_argument("--cold-rounds", type=int, default=3)
    given = parser.parse_args()

    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        figures |= start_up(Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        figures |= warm(Path(folder), given.rounds)
    figures["cold"] = cold(given.cold_rounds)
    print(json.dumps(figures))


def start_up(data: Path) -> dict[str, Any]:
    """How soon ``/healthz`` answers while a worker is loading, and what the service has mapped."""
    began = time.perf_counter()
    with ServiceProcess(data, {"device": "cpu", "warm": "true"}) as service:
        service.http.get("/healthz").raise_for_status()
        answered = time.perf_counter() - began
        job = service.submit(PROMPT)
        slowest = 0.0
        while service.job(job["id"])["status"] in ("queued", "running"):
            asked = time.perf_counter()
            service.http.get("/healthz").raise_for_status()
            slowest = max(slowest, time.perf_counter() - asked)
            time.sleep(0.02)
        maps = Path(f"/proc/{service.process.pid}/maps")
        torch = maps.exists() and "libtorch" in maps.read_text()
    print(f"healthz: first answer after {answered:.2f} s, slowest while loading {slowest:.3f} s")
    return {"healthz_seconds": round(answered, 2), "api_imports_torch": torch}


def warm(data: Path, rounds: int) -> dict[str, float]:
    """The service against the bare pipeline in this process, both warm."""
    pipeline = bare_pipeline()
    without_sizes = shutil.ignore_patterns("sfumato*.json")
    shutil.copytree(STARTER, data / "models" / ANY_SIZE, ignore=without_sizes)
    with ServiceProcess(data, {"device": "cpu"}) as service:
        alone = pairs(
            lambda: generate(service, 128, seed=1),
            lambda: bare(pipeline, 128, seed=1),
            rounds,
        )
        overhead = ratio("one request at 128 px", alone)
        figures = {"overhead": overhead}
        for size in (128, 256):
            batch = pairs(
                lambda size=size: asyncio.run(generate_together(service, size)),
                lambda size=size: [bare(pipeline, size, seed=n) for n in range(REQUESTS)],
                max(3, rounds // 2),
            )
            figures[f"throughput_{size}"] = round(
                1 / ratio(f"{REQUESTS} requests at {size} px", batch), 2
            )
    return figures


def bare_pipeline() -> Any:
    import diffusers  # noqa: PLC0415 - seconds of import, not wanted by --help
    import torch  # noqa: PLC0415

    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
        STARTER, dtype=torch.float32, safety_checker=None
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def bare(pipeline: Any, size: int, *, seed: int) -> None:
    import torch  # noqa: PLC0415

    pipeline(
        PROMPT,
        width=size,
        height=size,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        generator=torch.Generator().manual_seed(seed),
    )


def body(size: int, seed: int) -> dict[str, Any]:
    return {
        "prompt": PROMPT,
        "model": ANY_SIZE,
        "width": size,
        "height": size,
        "num_inference_steps": STEPS,
        "guidance_scale": GUIDANCE,
        "seed": seed,
    }


def generate(service: ServiceProcess, size: int, *, seed: int) -> None:
    service.http.post("/generate", json=body(size, seed)).raise_for_status()


async def generate_together(service: ServiceProcess, size: int) -> None:
    async with httpx.AsyncClient(base_url=service.url, timeout=120) as client:
        answers = await asyncio.gather(
            *(client.post("/generate", json=body(size, seed)) for seed in range(REQUESTS))
        )
    for answer in answers:
        answer.raise_for_status()


def cold(rounds: int) -> float:
    """``sfumato generate`` against the bare script, each from a new process, warm disk cache."""

    def in_new_process(*command: str) -> Callable[[], None]:
        def call() -> None:
            with tempfile.TemporaryDirectory() as folder:
                environment = {**os.environ, "SFUMATO_DATA": f"{folder}/data"}
                subprocess.run(
                    command,
                    cwd=folder,
                    env=environment,
                    check=True,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )

        return call

    times = pairs(
        in_new_process(sys.executable, "-m", "sfumato", "generate", PROMPT),
        in_new_process(sys.executable, "-c", BARE_SCRIPT),
        rounds,
    )
    return ratio("first picture from cold", times)


def pairs(
    ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int
) -> list[tuple[float, float]]:
    """Seconds of both sides, in turn, after one round that does not count."""
    times = []
    for number in range(rounds + 1):
        pair = []
        for side in (ours, theirs):
            began = time.perf_counter()
            side()
            pair.append(time.perf_counter() - began)
        if number:
            times.append((pair[0], pair[1]))
    return times


def ratio(name: str, times: list[tuple[float, float]]) -> float:
    """Median of ours over theirs, round by round."""
    ours, theirs = (statistics.median(side) for side in zip(*times, strict=True))
    middle = statistics.median(one / other for one, other in times)
    print(f"{name}: sfumato {ours:.3f} s, bare diffusers {theirs:.3f} s, ratio {middle:.2f}")
    return round(middle, 3)


if __name__ == "__main__":
    main()
