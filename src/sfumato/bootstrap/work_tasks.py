"""``sfumato worker --tasks``: a worker that brings its own work, from another system's queue."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

from sfumato.bootstrap.logs import configure_logging
from sfumato.bootstrap.parts import open_parts
from sfumato.bootstrap.tasks import open_intake
from sfumato.bootstrap.telemetry import WORKER_SERVICE, open_telemetry
from sfumato.bootstrap.work import run_beside_store, terms_of
from sfumato.bootstrap.working import WorkerTerms, let_engine_run
from sfumato.settings import Settings


def work_on_tasks(
    settings: Settings, *, runtime: str, name: str | None, idle_timeout: float | None, once: bool
) -> None:
    """Work until idle or told to stop; arguments as of :func:`sfumato.bootstrap.work.work`."""
    configure_logging(settings)
    let_engine_run()
    once = once or settings.tasks_once
    # Whoever scales it by the queue decides when it is one too many.
    idle_timeout = 0.0 if idle_timeout is None else idle_timeout
    terms = terms_of(settings, runtime=runtime, name=name, idle_timeout=idle_timeout, once=once)
    settings.data.mkdir(parents=True, exist_ok=True)  # there may be no service that made it
    asyncio.run(_work_on_tasks(settings, terms))


async def _work_on_tasks(settings: Settings, terms: WorkerTerms) -> None:
    """Take tasks beside a worker, which draws theirs and whatever else its runtime has.

    One-shot, it takes a task before any weights are loaded, and ends with it.
    """
    async with contextlib.AsyncExitStack() as stack:
        telemetry = stack.enter_context(open_telemetry(settings, service=WORKER_SERVICE))
        parts = await stack.enter_async_context(open_parts(settings, telemetry=telemetry))
        opening = open_intake(settings, parts, once=terms.once)
        intake = await stack.enter_async_context(opening)
        taking = asyncio.create_task(intake.run())
        began = asyncio.create_task(intake.began.wait())
        try:
            if terms.once:
                await asyncio.wait((taking, began), return_when=asyncio.FIRST_COMPLETED)
            if not terms.once or began.done():
                lasting = replace(terms, once=False)
                await run_beside_store(
                    settings, lasting, parts, beside=taking, on_stop=intake.drain
                )
            intake.give_back()
            await taking
        finally:
            for task in (taking, began):
                task.cancel()
            await asyncio.wait((taking, began))
