"""The worker: claims while there is room, drives one engine, drains when told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

from sfumato.core.errors import Unavailable
from sfumato.core.ports import (
    NO_MEASURES,
    NO_TRACES,
    Assignment,
    Assignments,
    Clock,
    ColdPhase,
    ImageEngine,
    Measures,
    ModelFiles,
    Traces,
)
from sfumato.worker.attend import Attendance
from sfumato.worker.bringing import LocalModelFiles
from sfumato.worker.engine_thread import EngineThread
from sfumato.worker.health import Health
from sfumato.worker.heartbeat import keep_leases
from sfumato.worker.run import JobRun

log = logging.getLogger(__name__)

#: Longest wait for a ring before the worker looks at its own idleness again, in seconds.
_LONGEST_POLL = 30.0
#: The same while no work could be had, so that it is soon known that it can be had again.
_POLL_AFTER_FAILURE = 1.0


class Worker:
    """Runs until idle, drained, or (``once``) through with one job.

    Args:
        make_engine: builds the engine in its own thread, while the first claim is under way; with
            ``once``, after it.
        files: brings models here; left out: every model is on this machine's disk.
        started_at: when this worker was asked for, in seconds since the epoch.
        max_jobs: jobs it holds at once; their pictures share the running batch.
        idle_timeout: seconds without work after which it stops; None: never.
        grace: seconds that running jobs get to finish when it drains.
        preview_interval: seconds before a job's first preview, and between two of them.
        once_patience: seconds after which a one-shot worker that finds nothing to claim gives up.
        on_loaded: called with the models in memory, when one was loaded.
        on_busy: called with True when it takes on a job while it has none, and with False when the
            last one has left it.
        health: told how the worker is.
        traces, measures: told what it does.
    """

    def __init__(
        self,
        *,
        assignments: Assignments,
        make_engine: Callable[[], ImageEngine],
        clock: Clock,
        started_at: float,
        files: ModelFiles | None = None,
        lease: float = 30.0,
        max_jobs: int = 16,
        idle_timeout: float | None = 300.0,
        grace: float = 10.0,
        preview_interval: float = 0.4,
        once: bool = False,
        once_patience: float = 0.5,
        on_loaded: Callable[[Sequence[str]], None] = lambda _models: None,
        on_busy: Callable[[bool], None] = lambda _busy: None,
        health: Health | None = None,
        traces: Traces = NO_TRACES,
        measures: Measures = NO_MEASURES,
    ) -> None:
        self._assignments = assignments
        self._make_engine = make_engine
        self._files = files or LocalModelFiles()
        self._clock = clock
        self._started_at = started_at
        self._ready_at = started_at
        self._lease = lease
        self._max_jobs = 1 if once else max_jobs
        self._idle_timeout = idle_timeout
        self._grace = grace
        self._preview_interval = preview_interval
        self._once = once
        self._once_patience = once_patience
        self._on_loaded = on_loaded
        self._on_busy = on_busy
        self._health = health or Health(clock.monotonic, once=once)
        self._traces = traces
        self._measures = measures
        self._draining = asyncio.Event()
        #: When a draining worker releases what it holds, in monotonic seconds.
        self._deadline = math.inf
        self._sooner = asyncio.Event()
        self._room = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._runs: dict[JobRun, asyncio.Task[None]] = {}

    def drain(self, *, within: float | None = None) -> None:
        """Stop claiming; finish what fits in the grace, release the rest with its state.

        While it drains already, the earlier end counts.

        Args:
            within: seconds, in place of the grace.
        """
        grace = self._grace if within is None else within
        self._deadline = min(self._deadline, self._clock.monotonic() + grace)
        self._sooner.set()
        self._health.draining = True
        self._draining.set()

    async def run(self) -> None:
        """Raises what broke the engine's thread, if it broke; jobs then go to the next worker."""
        self._ready_at = self._clock.now()
        self._measures.cold_start(ColdPhase.PROCESS, max(0.0, self._ready_at - self._started_at))
        engine = EngineThread(
            self._make_engine,
            clock=self._clock,
            preview_interval=self._preview_interval,
            on_loaded=self._loaded,
            health=self._health.engine,
            measures=self._measures,
        )
        if not self._once:
            engine.start()
        beat = asyncio.create_task(
            keep_leases(self._assignments, self._runs.keys, lease=self._lease)
        )
        alive = asyncio.create_task(self._health.keep_beating())
        broken = asyncio.create_task(engine.finished())
        claiming = asyncio.create_task(self._claim_while_welcome(engine))
        draining = asyncio.create_task(self._draining.wait())
        idle: asyncio.Task[Any] | None = None
        grace: asyncio.Task[Any] | None = None
        try:
            await _first_of(claiming, draining, broken, beat)
            await _stop(claiming)
            idle = asyncio.create_task(self._idle.wait())
            await _first_of(idle, draining, broken)
            grace = asyncio.create_task(self._grace_over())
            await _first_of(idle, broken, grace)
            if not idle.done() and not broken.done():
                self._release_all(engine)
                await _first_of(idle, broken)
            if not broken.done():
                await engine.stop()
        finally:
            tasks = (beat, alive, draining, claiming, broken, idle, grace)
            for task in (*(task for task in tasks if task is not None), *self._runs.values()):
                await _stop(task)
        for task in (broken, claiming, beat):
            if not task.cancelled() and (error := task.exception()):
                raise error

    async def _grace_over(self) -> None:
        """Returns once a draining worker has no time left."""
        while (left := self._deadline - self._clock.monotonic()) > 0:
            self._sooner.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if math.isinf(left) else left):
                    await self._sooner.wait()

    async def _claim_while_welcome(self, engine: EngineThread) -> None:
        idle_since = self._clock.monotonic()
        while True:
            while len(self._runs) >= self._max_jobs:
                self._room.clear()
                await self._room.wait()
            if self._runs:
                idle_since = self._clock.monotonic()
            assignment = await self._next(self._patience(idle_since))
            if assignment is not None:
                self._take_on(assignment, engine)
                if self._once:
                    return
            elif not self._runs and self._is_idle_since(idle_since):
                log.info("no work for %g s; stopping", self._clock.monotonic() - idle_since)
                return

    async def _next(self, patience: float) -> Assignment | None:
        try:
            assignment = await self._assignments.next(timeout=patience)
        except Unavailable as error:
            log.warning("no work can be had: %s", error)
            self._health.away = error.message
            await asyncio.sleep(min(_POLL_AFTER_FAILURE, patience))
            return None
        self._health.away = None
        return assignment

    def _patience(self, idle_since: float) -> float:
        if self._once:
            return self._once_patience
        longest = _LONGEST_POLL if self._health.away is None else _POLL_AFTER_FAILURE
        if self._idle_timeout is None:
            return longest
        left = self._idle_timeout - (self._clock.monotonic() - idle_since)
        return min(longest, max(0.05, left))

    def _is_idle_since(self, moment: float) -> bool:
        if self._once:
            return True
        idle = self._clock.monotonic() - moment
        return self._idle_timeout is not None and idle >= self._idle_timeout

    def _take_on(self, assignment: Assignment, engine: EngineThread) -> None:
        engine.start()
        run = JobRun(assignment, claimed_at=self._clock.monotonic(), traces=self._traces)
        attendance = Attendance(
            run,
            self._assignments,
            engine,
            self._files,
            self._clock,
            self._starting_seconds(assignment),
        )
        task = asyncio.create_task(attendance.until_ended(), name=f"job-{run.job_id}")
        self._runs[run] = task
        self._health.jobs = len(self._runs)
        if self._idle.is_set():
            self._idle.clear()
            self._on_busy(True)  # noqa: FBT003 - a state
        task.add_done_callback(lambda _task: self._ended(run))

    def _starting_seconds(self, assignment: Assignment) -> float:
        """How long the job waited for this very worker to start."""
        return max(0.0, self._ready_at - max(self._started_at, assignment.job.created_at))

    def _ended(self, run: JobRun) -> None:
        task = self._runs.pop(run)
        self._health.jobs = len(self._runs)
        self._room.set()
        if not self._runs:
            self._idle.set()
            self._on_busy(False)  # noqa: FBT003 - a state
        if not task.cancelled() and (error := task.exception()):
            message, fields = "job %s is left to its lease", run.spans.log_fields
            log.error(message, run.job_id, exc_info=error, extra=fields)

    def _loaded(self, models: Sequence[str]) -> None:
        self._health.models = models
        self._on_loaded(models)

    def _release_all(self, engine: EngineThread) -> None:
        log.info("the grace is over; releasing %d job(s) with their state", len(self._runs))
        for run in self._runs:
            engine.export(run)


async def _first_of(*tasks: asyncio.Future[Any], timeout: float | None = None) -> None:
    await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)


async def _stop(task: asyncio.Future[Any]) -> None:
    """Cancel a task and see it end; how it ended is looked at elsewhere."""
    task.cancel()
    await asyncio.wait((task,))
