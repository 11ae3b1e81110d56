"""A worker process. ``python -m sfumato.bootstrap.work`` is how the service starts one."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence

from sfumato.bootstrap.logs import configure_logging
from sfumato.bootstrap.parts import open_parts, runtimes_of
from sfumato.bootstrap.stopping import on_signals, stdin_ended
from sfumato.core.errors import UnknownRuntime
from sfumato.core.ports import ImageEngine
from sfumato.core.runtimes import Runtime
from sfumato.services.execution import Execution
from sfumato.settings import Settings
from sfumato.worker.loop import Worker

log = logging.getLogger(__name__)

_SWITCH_SECONDS = 0.0005


def work(
    settings: Settings,
    *,
    runtime: str = "default",
    name: str | None = None,
    idle_timeout: float | None = None,
    once: bool = False,
    started_at: float | None = None,
    exit_with_stdin: bool = False,
) -> None:
    """Work until idle or told to stop.

    Args:
        idle_timeout: seconds; None: the runtime's own, 0: never.
        once: exit after one job, or at once when none waits.
        started_at: when this process was asked for, in seconds since the epoch.
        exit_with_stdin: drain when standard input ends, as it does when the parent dies.
    """
    configure_logging(settings)
    # The engine's thread needs the interpreter between any two kernels; others must not keep it
    # for Python's usual 5 ms.
    sys.setswitchinterval(_SWITCH_SECONDS)
    chosen = _runtime(settings, runtime)
    patience = chosen.idle_timeout if idle_timeout is None else idle_timeout
    asyncio.run(
        _work(
            settings,
            runtime=chosen,
            name=name or f"{runtime}-{os.getpid()}",
            idle_timeout=patience or None,
            once=once,
            started_at=time.time() if started_at is None else started_at,
            exit_with_stdin=exit_with_stdin,
        )
    )


async def _work(
    settings: Settings,
    *,
    runtime: Runtime,
    name: str,
    idle_timeout: float | None,
    once: bool,
    started_at: float,
    exit_with_stdin: bool,
) -> None:
    async with open_parts(settings) as parts:
        execution = Execution(
            worker=name,
            runtimes=[runtime.name],
            store=parts.store,
            queue=parts.queue,
            images=parts.images,
            catalog=parts.catalog,
            watcher=parts.watcher,
            clock=parts.clock,
            lease=settings.lease,
        )
        worker = Worker(
            assignments=execution,
            make_engine=engine_maker(settings),
            clock=parts.clock,
            files=parts.model_files,
            started_at=started_at,
            lease=settings.lease,
            max_jobs=settings.max_jobs,
            idle_timeout=idle_timeout,
            grace=settings.grace,
            once=once,
        )
        with on_signals(worker.drain):
            orphaned = asyncio.create_task(_drain_with_stdin(worker, wanted=exit_with_stdin))
            try:
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


def engine_maker(settings: Settings) -> Callable[[], ImageEngine]:
    """What builds the engine; called in the engine's thread, since it imports torch."""
    kind, _, step_seconds = settings.device.partition(":")
    if kind == "fake":
        return lambda: _fake_engine(float(step_seconds or 0))
    return lambda: _diffusion_engine(settings.device)


def _diffusion_engine(device: str) -> ImageEngine:
    from sfumato.engine.opening import open_engine  # noqa: PLC0415 - seconds of torch

    return open_engine(device)


def _fake_engine(step_seconds: float) -> ImageEngine:
    from sfumato.engine.fake import FakeEngine  # noqa: PLC0415 - for trials and tests alone

    return FakeEngine(before_step=lambda _slots: time.sleep(step_seconds))


def _runtime(settings: Settings, name: str) -> Runtime:
    runtimes = {runtime.name: runtime for runtime in runtimes_of(settings)}
    if name not in runtimes:
        raise UnknownRuntime(
            f"There is no runtime {name!r}.", field="runtime", accepted=list(runtimes)
        )
    return runtimes[name]


def main(arguments: Sequence[str] | None = None) -> None:
    """The service's own way to start a worker: no command line library to wait for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", default="default")
    parser.add_argument("--name")
    parser.add_argument("--started-at", type=float)
    given = parser.parse_args(arguments)
    work(
        Settings.load(),
        runtime=given.runtime,
        name=given.name,
        started_at=given.started_at,
        exit_with_stdin=True,
    )


if __name__ == "__main__":
    main()
