"""One set-up from its first job to the verdict."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from scripts.servers.process import free_ports
from tests.chaos.caller import Caller, plan
from tests.chaos.crew import Crew
from tests.chaos.faults import Chaos, Planned, of_crew, schedule
from tests.chaos.setups import SETUPS, Setup, remove
from tests.chaos.verification import Books, Verdict, rings_left, verify

#: Seconds that a set-up may take.
HARD_LIMIT = 600.0
#: Jobs submitted in a second.
_RATE = 10.0
_SHORTEST = 12.0
#: Seconds that the queue gets to drain once every job has ended.
_DRAINING = 30.0
#: Of every process: short, so that what takes minutes in life takes seconds here.
_SETTINGS = {
    "device": "fake:0.02",
    "lease": 4,
    "ring_again_after": 8,
    "grace": 1,
    "idle_timeout": 3600,
    "log_level": "INFO",
}


@dataclass
class Outcome:
    """What a set-up came to. ``seconds``: to the last job's end, and until the queue was empty."""

    name: str
    verdict: Verdict
    faults: dict[str, int]
    seconds: float
    retries: int
    starts: dict[str, int]
    statuses: dict[str, int | None]
    tracebacks: list[str]
    refused: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return self.verdict.clean and not self.refused


@dataclass(frozen=True)
class Order:
    """What a run is to be. ``choose``: which faults, by name."""

    jobs: int
    workers: int
    seed: int
    choose: Callable[[str], bool] = lambda _name: True


async def run(
    name: str,
    order: Order,
    *,
    limit: float = HARD_LIMIT,
    tell: Callable[[str], None] = print,
    keep: bool = False,
) -> Outcome:
    """Run one set-up.

    Args:
        limit: seconds that it may take, whatever happens.
        keep: leave its folder, with the logs, where it is.

    Raises:
        TimeoutError: it took longer than the limit.
        Missing: a server that it needs is not installed.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"sfumato-chaos-{name}-"))
    try:
        async with asyncio.timeout(limit):
            return await _run(name, order, folder, tell)
    finally:
        if keep:
            tell(f"{name}: logs are in {folder}")
        else:
            await remove(folder)


async def _run(name: str, order: Order, folder: Path, tell: Callable[[str], None]) -> Outcome:
    draw = random.Random(order.seed)
    seconds = max(_SHORTEST, order.jobs / _RATE)
    port = free_ports(["http"])["http"]
    async with contextlib.AsyncExitStack() as stack:
        setup = await stack.enter_async_context(SETUPS[name](folder))
        settings = {**_SETTINGS, **setup.settings, "port": port}
        stack.enter_context(_environment(setup.environment))
        crew = await stack.enter_async_context(
            Crew(folder, workers=order.workers, settings=settings)
        )
        books = Books(setup)
        stack.callback(books.close)
        everything = {**of_crew(crew), **setup.faults}
        faults = {name: fault for name, fault in everything.items() if order.choose(name)}
        planned = schedule(list(faults), seconds=seconds, draw=draw)
        _tell_schedule(name, planned, order.seed, tell)
        chaos = Chaos(faults, draw)
        caller = Caller(f"http://127.0.0.1:{port}")
        begun = time.monotonic()
        submissions = plan(order.jobs, seconds=seconds, draw=draw)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(caller.submit_all(submissions))
            tasks.create_task(chaos.run(planned))
        tell(f"{name}: all is submitted and mended after {time.monotonic() - begun:.0f} s")
        await _all_final(books, tell)
        seconds = time.monotonic() - begun
        rings = await _drained(setup, books)
        await crew.leave()
        verdict = await verify(setup, books, caller.accepted, rings)
        return Outcome(
            name=name,
            verdict=verdict,
            faults=dict(sorted(chaos.done.items())),
            seconds=seconds,
            retries=caller.tries,
            starts={role.name: role.starts for role in crew.roles},
            statuses=dict(crew.statuses),
            tracebacks=crew.tracebacks(),
            refused=caller.refused,
        )


async def _all_final(books: Books, tell: Callable[[str], None]) -> None:
    """Until no job is queued or running, or, much later, it is clear that some never end."""
    deadline, before = time.monotonic() + 120.0, None
    while (left := await books.unfinished()) and time.monotonic() < deadline:
        if left != before:
            deadline = max(deadline, time.monotonic() + 60.0)
            before = left
        await asyncio.sleep(0.5)
    if left:
        tell(f"{left} jobs have not ended")


async def _drained(setup: Setup, books: Books) -> dict[str, int]:
    deadline = time.monotonic() + _DRAINING
    while (left := await rings_left(setup, books)) and time.monotonic() < deadline:
        await asyncio.sleep(1.0)
    return left


@contextlib.contextmanager
def _environment(given: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(given)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _tell_schedule(
    name: str, planned: list[Planned], seed: int, tell: Callable[[str], None]
) -> None:
    tell(f"{name}: {len(planned)} faults, seed {seed}")
    for each in planned:
        tell(f"  {each.at:6.1f} s  {each.name}")
