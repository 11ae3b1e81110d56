"""What a cluster tells of the pods that workers run in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class PodState(StrEnum):
    """How far a pod is from answering, or what stops it."""

    RUNNING = "running"  #: its container runs and is ready
    STARTING = "starting"  #: its container runs, and is not ready yet
    PREPARING = "preparing"  #: it has a node, and its container is being made
    PULLING = "pulling"  #: it has a node, which pulls its image
    AWAITING_NODE = "awaiting_node"  #: no node has room, and one is being added
    UNSCHEDULABLE = "unschedulable"  #: no node has room
    NO_CAPACITY = "no_capacity"  #: no node has room, and none could be added
    UNPULLABLE = "unpullable"  #: its image can't be pulled
    MISCONFIGURED = "misconfigured"  #: its container can't be made
    CRASHING = "crashing"  #: its container ends again and again
    LOST = "lost"  #: its node was taken away, or it was evicted


@dataclass(frozen=True, slots=True)
class WorkerPod:
    """One pod of a runtime's workers.

    Attributes:
        detail: what the cluster says of it, cut to a line; may be empty.
        crashes: how often its container has failed.
        last_crash: how it ended the last time; None: it never failed.
    """

    name: str
    state: PodState
    detail: str = ""
    crashes: int = 0
    last_crash: str | None = None


class ClusterView(Protocol):
    async def worker_pods(self, runtime: str) -> Sequence[WorkerPod]:
        """The pods of a runtime's workers, the newest first; those that have done their work and
        those that are being deleted are left out.

        Raises ``Unavailable``, or ``Forbidden`` where the cluster does not let us look.
        """
        ...
