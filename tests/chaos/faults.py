"""What is broken, how, and when: a seeded schedule, and the hands that carry it out."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import psutil

from scripts.servers import Server
from tests.chaos.clock import set_offset
from tests.chaos.crew import Crew, Role
from tests.support.proxy import Proxy

#: Breaks something and, but for processes that others start again, mends it before it returns.
Fault = Callable[[random.Random], Awaitable[None]]

#: Mean seconds between two faults, at most.
_MEAN_GAP = 2.5
#: Seconds by which a clock may be wrong.
_OFFSETS = (-3600.0, -20.0, -5.0, 0.0, 5.0, 20.0, 3600.0)


@dataclass(frozen=True)
class Planned:
    at: float
    name: str


def schedule(names: list[str], *, seconds: float, draw: random.Random) -> list[Planned]:
    """Every fault about as often, in an order that changes from round to round."""
    gap = min(_MEAN_GAP, seconds / (len(names) + 1))
    planned: list[Planned] = []
    at = gap
    while at < seconds:
        for name in draw.sample(names, len(names)):
            planned.append(Planned(at, name))
            at += draw.uniform(0.5, 1.5) * gap
            if at >= seconds:
                break
    return planned


@dataclass
class Chaos:
    """Carries out a schedule. ``done``: how often each fault was injected."""

    faults: Mapping[str, Fault]
    draw: random.Random
    done: Counter[str] = field(default_factory=Counter)

    async def run(self, planned: list[Planned]) -> None:
        """Faults overlap, but no fault overlaps itself."""
        busy = {name: asyncio.Lock() for name in self.faults}
        begun = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as tasks:
            for each in planned:
                await asyncio.sleep(begun + each.at - asyncio.get_running_loop().time())
                tasks.create_task(self._inject(each.name, busy[each.name]))

    async def _inject(self, name: str, busy: asyncio.Lock) -> None:
        async with busy:
            await self.faults[name](self.draw)
        self.done[name] += 1


# -- what every set-up has ---------------------------------------------------------------------


def of_crew(crew: Crew) -> dict[str, Fault]:
    async def kill_worker(draw: random.Random) -> None:
        _signal_any(crew.worker_processes(), signal.SIGKILL, draw)

    async def stop_worker(draw: random.Random) -> None:
        _signal_any(crew.worker_processes(), signal.SIGTERM, draw)

    async def freeze_worker(draw: random.Random) -> None:
        frozen = _signal_any(crew.worker_processes(), signal.SIGSTOP, draw)
        try:
            await asyncio.sleep(draw.uniform(3, 8))
        finally:
            if frozen is not None and frozen.is_running():
                frozen.send_signal(signal.SIGCONT)

    async def kill_service(_draw: random.Random) -> None:
        crew.service.signal(signal.SIGKILL)

    async def stop_service(_draw: random.Random) -> None:
        crew.service.signal(signal.SIGTERM)

    return {
        "worker: kill -9": kill_worker,
        "worker: TERM": stop_worker,
        "worker: frozen, past its lease": freeze_worker,
        "service: kill -9": kill_service,
        "service: TERM": stop_service,
        "service: its clock jumps": clock_jump(crew.service),
        **{f"{role.name}: its clock jumps": clock_jump(role) for role in crew.workers[:1]},
    }


def clock_jump(role: Role) -> Fault:
    async def jump(draw: random.Random) -> None:
        set_offset(role.clock, draw.choice(_OFFSETS))

    return jump


# -- servers and networks ------------------------------------------------------------------------


def of_server(name: str, server: Server) -> dict[str, Fault]:
    busy = asyncio.Lock()

    async def restart(_draw: random.Random) -> None:
        async with busy:
            await asyncio.to_thread(server.restart)

    async def kill(draw: random.Random) -> None:
        async with busy:
            await asyncio.to_thread(server.kill)
            await asyncio.sleep(draw.uniform(0, 3))
            await asyncio.to_thread(server.start)

    return {f"{name}: restarted": restart, f"{name}: kill -9": kill}


def of_network(name: str, proxy: Proxy) -> dict[str, Fault]:
    busy = asyncio.Lock()

    async def cut(draw: random.Random) -> None:
        async with busy:
            proxy.cut()
            await asyncio.sleep(draw.uniform(0, 4))
            proxy.resume()

    async def stall(draw: random.Random) -> None:
        async with busy:
            proxy.stall()
            await asyncio.sleep(draw.uniform(1, 5))
            if draw.random() < 0.5:
                proxy.cut()  # so that what was asked is done, or not, and nobody learns which
            proxy.resume()

    return {f"network to {name}: cut": cut, f"network to {name}: stalled": stall}


def _signal_any(
    processes: list[psutil.Process], number: signal.Signals, draw: random.Random
) -> psutil.Process | None:
    """Signal one of them, if there is one; answers which."""
    for process in draw.sample(processes, len(processes)):
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue
        return process
    return None
