"""A worker marks its own pod, so that whoever takes pods away takes an idle one."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from sfumato.adapters.kubernetes.api import KubernetesApi
from sfumato.core.errors import SfumatoError

log = logging.getLogger(__name__)

#: What a ReplicaSet looks at when it has a pod too many: the cheapest goes first.
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
#: Karpenter empties no node for its own ends while a pod on it has this.
DO_NOT_DISRUPT = "karpenter.sh/do-not-disrupt"

_BUSY = {DELETION_COST: "100", DO_NOT_DISRUPT: "true"}
_IDLE = {DELETION_COST: "0", DO_NOT_DISRUPT: None}

#: Seconds between the tries of one mark, the last for as long as it takes.
_RETRY_DELAYS = (1.0, 5.0, 15.0, 60.0)


class OwnPod:
    """Marks it at each change from idle to busy and back; nothing waits for that.

    Args:
        settle: seconds of idleness before it is told, so that jobs that follow each other closely
            cost the API server nothing.
        retry_delays: seconds between the tries of one mark.
    """

    def __init__(
        self,
        api: KubernetesApi,
        *,
        namespace: str,
        name: str,
        settle: float = 2.0,
        retry_delays: tuple[float, ...] = _RETRY_DELAYS,
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._settle = settle
        self._retry_delays = retry_delays
        self._busy = False
        self._marked: bool | None = None
        self._changed = asyncio.Event()
        self._complained = False

    def busy(self, busy: bool) -> None:  # noqa: FBT001 - a state
        """The worker holds jobs, or none. Called on the event loop; returns at once."""
        self._busy = busy
        self._changed.set()

    async def keep_marked(self) -> None:
        """Until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if not self._busy and await self._changes_within(self._settle):
                continue
            await self._mark(busy=self._busy)

    async def _mark(self, *, busy: bool) -> None:
        """Try until it is done, or no longer true."""
        tries = 0
        while busy != self._marked:
            try:
                await self._api.annotate_pod(self._namespace, self._name, _BUSY if busy else _IDLE)
            except SfumatoError as error:
                self._complain(error)
                if not error.retryable:  # the next change is told again
                    return
                delay = self._retry_delays[min(tries, len(self._retry_delays) - 1)]
                tries += 1
                if await self._changes_within(delay):
                    return
            else:
                self._marked = busy
                self._complained = False

    async def _changes_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        return self._changed.is_set()

    def _complain(self, error: SfumatoError) -> None:
        """Once for all that follow from it: jobs go on as well without."""
        level = logging.DEBUG if self._complained else logging.WARNING
        self._complained = True
        log.log(level, "this pod could not be marked as busy or idle: %s", error.message)
