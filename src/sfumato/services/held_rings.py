"""The rings of attempts that are under way: acknowledged when those have ended, and not before."""

from __future__ import annotations

import logging

from sfumato.core.current import about
from sfumato.core.errors import Unavailable
from sfumato.core.job import Job
from sfumato.core.ports import Delivery

log = logging.getLogger(__name__)


class HeldRings:
    """Of one worker, by attempt."""

    def __init__(self) -> None:
        self._deliveries: dict[tuple[str, int], Delivery] = {}

    def hold(self, job: Job, delivery: Delivery) -> None:
        """Keep the ring by which an attempt was claimed."""
        self._deliveries[job.id, job.attempt] = delivery

    async def extend(self, job: Job, visibility: float) -> None:
        """Nobody else is to hear it for so many seconds."""
        delivery = self._deliveries.get((job.id, job.attempt))
        if delivery is not None:
            await delivery.extend(visibility)

    async def settle(self, job: Job) -> None:
        """Acknowledge the ring, after the commit. A ring that stays only rings once more."""
        delivery = self._deliveries.pop((job.id, job.attempt), None)
        if delivery is None:
            return
        try:
            await delivery.ack()
        except Unavailable as error:
            message = "job %s: its ring could not be acknowledged: %s"
            log.warning(message, job.id, error, extra=about(job))

    async def let_go(self) -> None:
        """Give every ring back."""
        while self._deliveries:
            _, delivery = self._deliveries.popitem()
            try:
                await delivery.release()
            except Unavailable as error:
                log.warning("a ring could not be given back: %s", error)
