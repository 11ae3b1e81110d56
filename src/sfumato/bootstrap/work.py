"""A worker process. ``python -m sfumato.bootstrap.work`` is how the service starts one."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable, Sequence

from sfumato.bootstrap.logs import configure_logging
from sfumato.bootstrap.parts import Parts, open_parts, prices_of, results_of, runtimes_of
from sfumato.bootstrap.telemetry import WORKER_SERVICE, open_telemetry
from sfumato.bootstrap.working import SHORTEST_LONG_POLL, WorkerTerms, let_engine_run, run_worker
from sfumato.core.errors import SfumatoError, UnknownRuntime
from sfumato.core.ports import WorkerKind
from sfumato.core.runtimes import Runtime
from sfumato.services.execution import Execution
from sfumato.settings import Settings


def work(
    settings: Settings,
    *,
    runtime: str = "default",
    name: str | None = None,
    idle_timeout: float | None = None,
    once: bool = False,
    started_at: float | None = None,
    exit_with_stdin: bool = False,
    tell: int | None = None,
) -> None:
    """Work until idle or told to stop.

    Args:
        idle_timeout: seconds; None: the runtime's own, 0: never.
        once: exit after one job, or at once when none waits.
        started_at: when this process was asked for, in seconds since the epoch.
        exit_with_stdin: drain when standard input ends, as it does when the parent dies.
        tell: descriptor to which what is measured is told; None: it is told at the internal port.
    """
    configure_logging(settings)
    let_engine_run()
    terms = terms_of(
        settings,
        runtime=runtime,
        name=name,
        idle_timeout=idle_timeout,
        once=once,
        started_at=started_at,
        exit_with_stdin=exit_with_stdin,
    )
    asyncio.run(_work(settings, terms, tell))


def terms_of(
    settings: Settings,
    *,
    runtime: str,
    name: str | None,
    idle_timeout: float | None,
    once: bool,
    started_at: float | None = None,
    exit_with_stdin: bool = False,
) -> WorkerTerms:
    """The terms of a worker beside its store; arguments as of :func:`work`."""
    chosen = _runtime(settings, runtime)
    patience = chosen.idle_timeout if idle_timeout is None else idle_timeout
    return WorkerTerms(
        name=name or f"{runtime}-{os.getpid()}",
        runtime=chosen.name,
        kind=WorkerKind.LOCAL,
        lease=settings.lease,
        idle_timeout=patience or None,
        once=once,
        once_patience=SHORTEST_LONG_POLL if _has_sqs(settings) else 0.5,
        started_at=time.time() if started_at is None else started_at,
        exit_with_stdin=exit_with_stdin,
    )


async def _work(settings: Settings, terms: WorkerTerms, tell: int | None) -> None:
    with open_telemetry(settings, service=WORKER_SERVICE, tell=tell) as telemetry:
        async with open_parts(settings, telemetry=telemetry) as parts:
            await run_beside_store(settings, terms, parts)


async def run_beside_store(
    settings: Settings,
    terms: WorkerTerms,
    parts: Parts,
    *,
    beside: asyncio.Future[None] | None = None,
    on_stop: Callable[[], None] = lambda: None,
) -> None:
    """A worker's life; arguments as of :func:`run_worker`."""
    execution = Execution(
        worker=terms.name,
        runtimes=[terms.runtime],
        store=parts.store,
        queue=parts.queue,
        images=parts.images,
        catalog=parts.catalog,
        watcher=parts.watcher,
        clock=parts.clock,
        lease=terms.lease,
        results=results_of(settings, parts),
        prices=prices_of(parts.runtimes),
        traces=parts.telemetry.traces,
        measures=parts.telemetry.measures,
    )
    await run_worker(
        settings,
        terms,
        assignments=execution,
        registry=parts.workers,
        files=parts.model_files,
        clock=parts.clock,
        telemetry=parts.telemetry,
        beside=beside,
        on_stop=on_stop,
    )


def _has_sqs(settings: Settings) -> bool:
    return (settings.queue_url or "").startswith("sqs://")


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
    parser.add_argument("--tell", type=int)
    given = parser.parse_args(arguments)
    try:
        work(
            Settings.load(),
            runtime=given.runtime,
            name=given.name,
            started_at=given.started_at,
            exit_with_stdin=True,
            tell=given.tell,
        )
    except SfumatoError as error:
        # Its message says what is wrong and what to do; the service starts another in a while.
        sys.exit(f"The worker does not start: {error.message}")


if __name__ == "__main__":
    main()
