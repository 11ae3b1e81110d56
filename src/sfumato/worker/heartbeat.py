"""Keeps leases alive while work runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection

from sfumato.core.errors import SfumatoError
from sfumato.core.ports import Assignments, Revocation
from sfumato.worker.run import JobRun

log = logging.getLogger(__name__)


async def keep_leases(
    assignments: Assignments, runs: Callable[[], Collection[JobRun]], *, lease: float
) -> None:
    """Extend every run's lease at a third of it, until cancelled.

    A run whose lease is no longer ours is told so through its mailbox. A store that does not
    answer is tried again at the next beat: two may be missed before a lease runs out.
    """
    while True:
        await asyncio.sleep(lease / 3)
        for run in list(runs()):
            try:
                held = await assignments.extend(run.assignment)
            except SfumatoError as error:
                log.warning("the heartbeat of job %s failed: %s", run.job_id, error)
                continue
            if not held:
                run.post(Revocation.LOST)
