"""Drains a worker in the time that its machine has left."""

from __future__ import annotations

import logging
from collections.abc import Callable

from sfumato.core.ports import Clock, SpotNotices

log = logging.getLogger(__name__)

#: Seconds kept for the states of what is not finished, and their upload; less of a short notice.
_FOR_RELEASING = 30.0


async def drain_at_notice(
    notices: SpotNotices, clock: Clock, drain: Callable[[float], None]
) -> None:
    """Wait for a notice, then call ``drain`` with the seconds that running jobs may still take.

    A third of the notice, at most half a minute, is left for releasing the rest.
    """
    notice = await notices.next()
    left = max(0.0, notice.ends_at - clock.now())
    log.warning("this machine is taken away in %.0f s (%s); draining", left, notice.reason)
    drain(left - min(_FOR_RELEASING, left / 3))
