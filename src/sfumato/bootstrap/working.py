"""What every worker process does, wherever its assignments come from."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from asyncio import Future
from collections.abc import Callable
from dataclasses import dataclass

from sfumato.bootstrap.cluster import WorkerSurroundings
from sfumato.bootstrap.internal import probes_of, serve_internally
from sfumato.bootstrap.logs import name_worker
from sfumato.bootstrap.stopping import on_signals, stdin_ended
from sfumato.bootstrap.telemetry import Telemetry
from sfumato.core.ports import (
    Assignments,
    Clock,
    ImageEngine,
    ModelFiles,
    WorkerKind,
    WorkerRegistry,
)
from sfumato.settings import Settings
from sfumato.worker.health import Health
from sfumato.worker.loop import Worker
from sfumato.worker.presence import Presence

log = logging.getLogger(__name__)

_SWITCH_SECONDS = 0.0005
#: What a one-shot worker waits for SQS: a shorter look asks some of its servers alone, and may
#: miss a message that is there.
SHORTEST_LONG_POLL = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTerms:
    """How one worker works.

    Attributes:
        name: unique among all workers.
        idle_timeout: seconds without work after which it stops; None: never.
        once: stop after one job, or at once when none waits.
        once_patience: seconds for which a job is looked for then.
        started_at: when this process was asked for, in seconds since the epoch.
        exit_with_stdin: drain when standard input ends, as it does when the parent dies.
    """

    name: str
    runtime: str
    kind: WorkerKind
    lease: float
    idle_timeout: float | None
    once: bool
    started_at: float
    once_patience: float = 0.5
    exit_with_stdin: bool = False


def let_engine_run() -> None:
    """The engine's thread needs the interpreter between any two kernels; other threads must not
    keep it for Python's usual 5 ms."""
    sys.setswitchinterval(_SWITCH_SECONDS)


async def run_worker(
    settings: Settings,
    terms: WorkerTerms,
    *,
    assignments: Assignments,
    registry: WorkerRegistry,
    files: ModelFiles | None,
    clock: Clock,
    telemetry: Telemetry,
    beside: Future[None] | None = None,
    on_stop: Callable[[], None] = lambda: None,
) -> None:
    """Work until idle, or told to stop by a signal: at the first one, within the grace; at
    another, at once.

    Args:
        beside: what brings the work of this process; once it has ended, the worker drains too.
        on_stop: what else is to be done at a signal.
    """
    name_worker(worker=terms.name, runtime=terms.runtime)
    presence = Presence(
        registry,
        name=terms.name,
        runtime=terms.runtime,
        kind=terms.kind,
        device=settings.device,
        started_at=terms.started_at,
        clock=clock,
    )
    health = Health(clock.monotonic, once=terms.once, stuck_after=settings.stuck_after)
    surroundings = WorkerSurroundings(settings, clock)
    worker = Worker(
        assignments=assignments,
        make_engine=_engine_maker(settings, presence, telemetry),
        clock=clock,
        started_at=terms.started_at,
        files=files,
        lease=terms.lease,
        max_jobs=settings.max_jobs,
        idle_timeout=terms.idle_timeout,
        grace=settings.grace,
        once=terms.once,
        once_patience=terms.once_patience,
        on_loaded=presence.loaded,
        on_busy=surroundings.busy,
        health=health,
        traces=telemetry.traces,
        measures=telemetry.measures,
    )
    if beside is not None:
        beside.add_done_callback(lambda _ended: worker.drain())

    signals = 0

    def stop() -> None:
        nonlocal signals
        signals += 1
        worker.drain(within=None if signals == 1 else 0.0)
        on_stop()

    pages = {**probes_of(health), **telemetry.pages}
    with on_signals(stop), serve_internally(settings, pages):
        orphaned = asyncio.create_task(_drain_with_stdin(worker, wanted=terms.exit_with_stdin))
        try:
            async with (
                surroundings.followed(lambda left: worker.drain(within=left)),
                presence.told(at_once=not terms.once),
            ):
                await worker.run()
        finally:
            orphaned.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await orphaned


async def _drain_with_stdin(worker: Worker, *, wanted: bool) -> None:
    if wanted:
        await stdin_ended()
        log.info("the service is gone; stopping")
        worker.drain()


def _engine_maker(
    settings: Settings, presence: Presence, telemetry: Telemetry
) -> Callable[[], ImageEngine]:
    """What builds the engine; called in the engine's thread, since it imports torch."""
    kind, _, step_seconds = settings.device.partition(":")
    if kind == "fake":
        return lambda: _fake_engine(float(step_seconds or 0))
    return lambda: _diffusion_engine(settings, presence, telemetry)


def _diffusion_engine(settings: Settings, presence: Presence, telemetry: Telemetry) -> ImageEngine:
    from sfumato.engine.opening import open_engine  # noqa: PLC0415 - seconds of torch

    engine = open_engine(
        settings.device,
        model_memory=settings.model_memory_bytes,
        gpu_share=settings.gpu_memory_fraction,
    )
    from sfumato.engine.devices import describe_device, memory_of  # noqa: PLC0415 - torch too

    presence.device = describe_device(settings.device)
    telemetry.watch_device(memory_of(settings.device))
    return engine


def _fake_engine(step_seconds: float) -> ImageEngine:
    from sfumato.engine.fake import FakeEngine  # noqa: PLC0415 - for trials and tests alone

    return FakeEngine(before_step=lambda _slots: time.sleep(step_seconds))
