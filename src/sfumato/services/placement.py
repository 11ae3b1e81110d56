"""How many workers each runtime should have, and why a job still waits."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from sfumato.core.errors import NotFound, SfumatoError
from sfumato.core.ports import Clock, JobCounts, JobStore, WorkerExit, WorkerPool
from sfumato.core.runtimes import Runtime
from sfumato.services.recovery import Recovery
from sfumato.services.shared_answers import SharedAnswers
from sfumato.services.watching import JobWatcher

log = logging.getLogger(__name__)

#: Jobs that one worker is expected to hold at once in its running batch.
JOBS_PER_WORKER = 16
#: Crashes in a row wait 0.5, 1, 2 … seconds, at most this long.
MAX_BACKOFF = 30.0
#: A worker that lived this long was well: the next crash counts as the first.
HEALTHY_AFTER = 60.0


def desired_workers(counts: JobCounts, runtime: Runtime) -> int:
    """Workers that the open jobs of a runtime ask for, 0 to ``runtime.max_workers``."""
    return min(runtime.max_workers, _workers_for(counts))


def _workers_for(counts: JobCounts) -> int:
    return math.ceil((counts.queued + counts.running) / JOBS_PER_WORKER)


@dataclass(frozen=True, slots=True)
class ScalingSignal:
    """What an autoscaler asks of a runtime. ``oldest_seconds``: how long its oldest queued job
    has waited; 0 when none does."""

    queued: int
    running: int
    desired: int
    oldest_seconds: float

    @property
    def open(self) -> int:
        """Jobs that wait or run: with a worker a job, how many workers there should be."""
        return self.queued + self.running


class Scaling:
    """The scaling signal, the same whatever the broker: it comes from the job store.

    Counted at most once in ``max_age`` seconds for each runtime, however many ask.
    """

    def __init__(
        self,
        *,
        store: JobStore,
        runtimes: Sequence[Runtime],
        clock: Clock,
        max_age: float = 0.5,
    ) -> None:
        self._store = store
        self._runtimes = {runtime.name: runtime for runtime in runtimes}
        self._clock = clock
        self._counts = SharedAnswers(self._count, clock=clock, max_age=max_age)

    def check(self, name: str) -> Runtime:
        """The runtime of that name. Raises ``NotFound``."""
        runtime = self._runtimes.get(name)
        if runtime is None:
            raise NotFound(f"There is no runtime {name[:64]!r}; /v1/runtimes lists them.")
        return runtime

    async def of(self, name: str) -> ScalingSignal:
        """Raises ``NotFound``."""
        runtime = self.check(name)
        # Shielded: a caller that leaves must not take the answer from the others.
        counts = await asyncio.shield(self._counts.of(name).answer)
        oldest = counts.oldest_queued_at
        # A service that starts no workers leaves their limit to whoever does.
        desired = desired_workers(counts, runtime) if runtime.max_workers else _workers_for(counts)
        return ScalingSignal(
            queued=counts.queued,
            running=counts.running,
            desired=desired,
            oldest_seconds=0.0 if oldest is None else max(0.0, self._clock.now() - oldest),
        )

    async def _count(self, name: str) -> JobCounts:
        return await self._store.counts(name)


@dataclass(slots=True)
class RuntimeState:
    """What the supervisor knows of one runtime. Times are monotonic seconds."""

    runtime: Runtime
    started: dict[str, float] = field(default_factory=dict)
    crashes: int = 0
    last_crash: str | None = None
    not_before: float = 0.0

    @property
    def backoff(self) -> float:
        """Seconds to wait after the crashes so far."""
        return min(MAX_BACKOFF, 0.5 * 2.0 ** max(0, self.crashes - 1)) if self.crashes else 0.0


class Supervisor:
    """Starts workers of this region when jobs wait; they stop themselves when idle.

    Args:
        warm: runtimes that get a worker at once, before any job waits.
    """

    def __init__(
        self,
        *,
        runtimes: Sequence[Runtime],
        pool: WorkerPool,
        store: JobStore,
        recovery: Recovery,
        watcher: JobWatcher,
        clock: Clock,
        warm: Sequence[str] = (),
    ) -> None:
        self._states = {runtime.name: RuntimeState(runtime) for runtime in runtimes}
        self._pool = pool
        self._store = store
        self._recovery = recovery
        self._watcher = watcher
        self._clock = clock
        self._warm = set(warm)

    async def run(self, *, interval: float = 1.0) -> None:
        """Until cancelled: look at each change of a job, and at least every ``interval`` seconds."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._start_workers(interval), name="supervisor-start")
            tasks.create_task(self._follow_exits(), name="supervisor-exits")

    def state(self, runtime: str) -> RuntimeState:
        return self._states[runtime]

    def workers(self, runtime: str) -> Sequence[str]:
        return self._pool.running(runtime)

    def why_waiting(self, runtime: str) -> str | None:
        """Why the job at the head of a runtime's queue is not running yet."""
        state = self._states.get(runtime)
        if state is None or not state.runtime.max_workers:  # its workers are started elsewhere
            return None
        if self._pool.running(runtime):
            return "starting a worker" if not state.crashes else "starting a worker again"
        wait = state.not_before - self._clock.monotonic()
        if state.crashes and wait > 0:
            return f"the last worker {state.last_crash}; starting another in {wait:.0f} s"
        return "no worker is running; one is about to start"

    async def _start_workers(self, interval: float) -> None:
        with self._watcher.subscribe_all() as changed:
            while True:
                changed.clear()
                for state in self._states.values():
                    try:
                        await self._top_up(state)
                    except SfumatoError as error:
                        log.warning("could not look after %s: %s", state.runtime.name, error)
                try:
                    async with asyncio.timeout(interval):
                        await changed.wait()
                except TimeoutError:
                    continue

    async def _top_up(self, state: RuntimeState) -> None:
        name = state.runtime.name
        counts = await self._store.counts(name)
        desired = desired_workers(counts, state.runtime)
        if name in self._warm:
            desired = max(desired, 1)
        if self._clock.monotonic() < state.not_before:
            return
        for _ in range(desired - len(self._pool.running(name))):
            worker = await self._pool.start(name)
            state.started[worker] = self._clock.monotonic()
            log.info("%s: started worker %s", name, worker)
        self._warm.discard(name)

    async def _follow_exits(self) -> None:
        while True:
            ended = await self._pool.ended()
            self._note_exit(ended)
            try:
                await self._recovery.worker_gone(
                    ended.worker, reason=f"worker {ended.worker} {ended.description}"
                )
            except SfumatoError as error:
                log.warning("jobs of %s wait for their lease to run out: %s", ended.worker, error)

    def _note_exit(self, ended: WorkerExit) -> None:
        state = self._states[ended.runtime]
        now = self._clock.monotonic()
        lived = now - state.started.pop(ended.worker, now)
        if not ended.crashed:
            state.crashes = 0
            log.info("worker %s %s", ended.worker, ended.description)
            return
        state.crashes = 1 if lived >= HEALTHY_AFTER else state.crashes + 1
        state.last_crash = ended.description
        # The first restart is immediate: a machine that was lost says nothing about the next.
        state.not_before = now + (state.backoff if state.crashes > 1 else 0.0)
        log.warning("worker %s %s", ended.worker, ended.description)
