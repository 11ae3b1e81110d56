"""Why a job waits, where its workers are pods of a cluster."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from sfumato.core.errors import SfumatoError
from sfumato.core.ports import Clock, ClusterView, PodState, WorkerPod
from sfumato.services.shared_answers import SharedAnswers

log = logging.getLogger(__name__)

#: Seconds for which an answer may wait for the cluster's.
_PATIENCE = 2.0

#: Of several pods, the one that will answer first is told of.
_SOONEST_FIRST = (
    PodState.STARTING,
    PodState.PREPARING,
    PodState.PULLING,
    PodState.AWAITING_NODE,
    PodState.UNSCHEDULABLE,
    PodState.NO_CAPACITY,
    PodState.UNPULLABLE,
    PodState.MISCONFIGURED,
    PodState.CRASHING,
    PodState.LOST,
)

#: ``{because}`` is what the cluster says, in brackets, or nothing.
_WORDS = {
    PodState.STARTING: "starting a worker: pod {pod} is up, and opens its engine",
    PodState.PREPARING: "starting a worker: pod {pod} is being made{because}",
    PodState.PULLING: "starting a worker: pod {pod} is pulling the image",
    PodState.AWAITING_NODE: "starting a worker: a node is being added for pod {pod}{because}",
    PodState.UNSCHEDULABLE: "starting a worker: pod {pod} waits for a node{because}",
    PodState.NO_CAPACITY: "no capacity: no node can be added for pod {pod}{because}",
    PodState.UNPULLABLE: "the worker's image can't be pulled: {detail}",
    PodState.MISCONFIGURED: "the worker's container can't be made: {detail}",
    PodState.LOST: "starting a worker: pod {pod} was lost with its node{because}",
}


def why_pods_are_awaited(pods: Sequence[WorkerPod]) -> str | None:
    """What a runtime's pods are waiting for; None where one of them is at work.

    A crash is never told as a lack of capacity, nor the other way round: of pods that were lost
    with their machine nothing is said but that another one starts.
    """
    if any(pod.state is PodState.RUNNING for pod in pods):
        return None
    if not pods:
        return "starting a worker: the cluster has made no pod for it yet"
    soonest = min(pods, key=lambda pod: _SOONEST_FIRST.index(pod.state))
    crashes, last = _crashes(pods)
    if soonest.state is PodState.CRASHING:
        return f"the worker crashed {_times(crashes)}: {last or 'no reason is known'}"
    progress = _WORDS[soonest.state].format(
        pod=soonest.name,
        detail=soonest.detail,
        because=f" ({soonest.detail})" if soonest.detail else "",
    )
    return progress if not crashes else f"{progress}; it crashed {_times(crashes)} before: {last}"


def _crashes(pods: Sequence[WorkerPod]) -> tuple[int, str | None]:
    """Of all pods, and how the newest that crashed ended."""
    lasts = (pod.last_crash for pod in pods if pod.last_crash is not None)
    return sum(pod.crashes for pod in pods), next(lasts, None)


def _times(count: int) -> str:
    return "once" if count <= 1 else f"{count} times"


class WaitingReasons:
    """Why the job at the head of a runtime's queue is not running yet.

    Args:
        ours: tells of the workers that this process starts; None of others.
        cluster: tells of those that are pods.
    """

    def __init__(
        self, ours: Callable[[str], str | None], cluster: ClusterReasons | None = None
    ) -> None:
        self._ours = ours
        self._cluster = cluster

    async def of(self, runtime: str) -> str | None:
        return self._ours(runtime) or await self.in_cluster(runtime)

    async def in_cluster(self, runtime: str) -> str | None:
        """The same, of pods alone: what holds up those behind the head, too."""
        return None if self._cluster is None else await self._cluster.why_waiting(runtime)


class ClusterReasons:
    """Asks the cluster when somebody asks, at most once in ``max_age`` seconds a runtime.

    A cluster that does not answer breaks nobody's answer, and delays it once in ``max_age`` at
    most: then nothing is known.

    Args:
        patience: seconds for which an answer may wait.
    """

    def __init__(
        self,
        view: ClusterView,
        *,
        clock: Clock,
        max_age: float = 5.0,
        patience: float = _PATIENCE,
    ) -> None:
        self._view = view
        self._clock = clock
        self._max_age = max_age
        self._patience = patience
        self._answers = SharedAnswers(self._ask, clock=clock, max_age=max_age)
        self._complained = False

    async def why_waiting(self, runtime: str) -> str | None:
        """Why no worker of a runtime takes its next job; None: one does, or nothing is known."""
        asked = self._answers.of(runtime)
        # Not cancelled with its first caller: others wait for the same answer. A list of many jobs
        # waits for it once.
        left = asked.at + self._patience - self._clock.monotonic()
        await asyncio.wait((asked.answer,), timeout=max(0.0, left))
        return asked.answer.result() if asked.answer.done() else None

    async def _ask(self, runtime: str) -> str | None:
        try:
            async with asyncio.timeout(self._max_age):
                pods = await self._view.worker_pods(runtime)
        except (SfumatoError, TimeoutError) as error:
            level = logging.DEBUG if self._complained else logging.WARNING
            log.log(level, "the cluster does not tell why jobs wait: %s", str(error) or "no answer")
            self._complained = True
            return None
        self._complained = False
        return why_pods_are_awaited(pods)
