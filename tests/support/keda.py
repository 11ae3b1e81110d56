"""KEDA's and the horizontal pod autoscaler's own arithmetic, to replay what they would do.

Sources: KEDA's ``pkg/scaling/executor/scale_jobs.go`` (``getScalingDecision``, ``createJobs`` and the
strategies) and ``pkg/scaling/scaledjob/metrics.go``, as of KEDA 2.20; Kubernetes' documentation of
the autoscaler's algorithm (``desiredReplicas = ceil(currentReplicas * currentMetricValue /
desiredMetricValue)``, the tolerance of 0.1, stabilization and policies), which for a metric of kind
AverageValue is ``ceil(metric / target)``; and the order in which a ReplicaSet lets go of its pods,
``pkg/controller/controller_utils.go`` (``ActivePodsWithRanks``).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

Strategy = Literal["default", "accurate", "eager"]


@dataclass(frozen=True)
class ScaledJob:
    """A ScaledJob with one trigger and no least number of Jobs.

    Args:
        target: of the metric, a Job.
    """

    strategy: Strategy = "default"
    max_replicas: int = 20
    target: float = 1.0

    def jobs_to_create(self, metric: float, *, running: int, pending: int) -> int:
        """At one poll.

        Args:
            running: Jobs that have not ended, those included whose pods are still pending.
            pending: of these, those whose pods don't run yet.
        """
        if metric <= 0:
            return 0  # not active: activation is strictly above 0
        scale_to = math.ceil(metric)
        max_scale = math.ceil(min(metric / self.target, self.max_replicas))
        match self.strategy:
            case "default":
                effective = max_scale - running
            case "accurate":
                effective = max_scale - pending
                if max_scale + running - pending > self.max_replicas:
                    effective = self.max_replicas - running
            case "eager":
                effective = min(self.max_replicas - running - pending, max_scale)
                scale_to = self.max_replicas
        return max(0, min(scale_to, effective))


@dataclass
class ScaledObject:
    """A ScaledObject with one trigger: KEDA between 0 and 1, the autoscaler above. Times are seconds.

    Args:
        target: of the metric, a pod.
        stabilization: for how long the highest recommendation holds on the way down.
        down_every: one pod less in so many seconds.
    """

    max_replicas: int = 20
    target: float = 1.0
    cooldown: float = 300.0
    stabilization: float = 300.0
    down_every: float = 60.0
    tolerance: float = 0.1
    _active_at: float = -math.inf
    _lowered_at: float = -math.inf
    _recommended: deque[tuple[float, int]] = field(default_factory=deque)

    def polled(self, metric: float, replicas: int, *, now: float) -> int:
        """KEDA's part, at each of its polls."""
        if metric > 0:
            self._active_at = now
            return max(1, replicas)
        return 0 if now - self._active_at >= self.cooldown else replicas

    def synced(self, metric: float, replicas: int, *, now: float) -> int:
        """The autoscaler's part, each 15 seconds."""
        if replicas == 0:
            return 0  # it is out of work until KEDA has made the first pod
        wanted = replicas
        if abs(1.0 - metric / (self.target * replicas)) > self.tolerance:
            wanted = math.ceil(metric / self.target)
        wanted = min(max(1, wanted), self.max_replicas)
        self._recommended.append((now, wanted))
        while self._recommended[0][0] < now - self.stabilization:
            self._recommended.popleft()
        if wanted > replicas:  # up to twice as many, or four more, whichever is more
            return min(wanted, max(2 * replicas, replicas + 4))
        stable = max(count for _, count in self._recommended)
        if stable < replicas and now - self._lowered_at >= self.down_every:
            self._lowered_at = now
            return replicas - 1
        return replicas


def first_to_go(*, running: bool, ready: bool, deletion_cost: int) -> tuple[bool, bool, int]:
    """By this a ReplicaSet sorts its pods, the first to go first: pending ones, those that are not
    ready, and then by what their deletion costs."""
    return running, ready, deletion_cost
