"""What a caller is told of pods, from what an API server answers to the sentence."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest

from sfumato.adapters.kubernetes import KubernetesApi, KubernetesClusterView
from sfumato.bootstrap.clock import SystemClock
from sfumato.core.errors import Unavailable
from sfumato.core.ports import PodState, WorkerPod
from sfumato.services.waiting import ClusterReasons, why_pods_are_awaited
from tests.support.kubernetes import ApiServer, Thing, event, pod

NO_NODE = {
    "conditions": [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 "
            "nodes are available: 3 No preemption victims found for incoming pod.",
        }
    ]
}
ON_NODE = [{"type": "PodScheduled", "status": "True"}]
LACKING = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu"
TWO_CRASHES = "it crashed 2 times before: out of memory"
CREATING = {"state": {"waiting": {"reason": "ContainerCreating"}}, "restartCount": 0}


def on_node(container: Thing, **status: Any) -> dict[str, Any]:
    return {"conditions": ON_NODE, "containerStatuses": [container], **status}


def waiting(reason: str, message: str = "", **container: Any) -> Thing:
    return {"state": {"waiting": {"reason": reason, "message": message}}, **container}


def ended(exit_code: int, reason: str = "Error") -> Thing:
    return {"terminated": {"exitCode": exit_code, "reason": reason}}


CASES: dict[str, tuple[list[Thing], list[Thing], str | None]] = {
    "no pod": ([], [], "starting a worker: the cluster has made no pod for it yet"),
    "no node": (
        [pod("w-1", **NO_NODE)],
        [event("w-1", "FailedScheduling", "0/3 nodes are available")],
        f"starting a worker: pod w-1 waits for a node ({LACKING})",
    ),
    "a node is being added by the cluster autoscaler": (
        [pod("w-1", **NO_NODE)],
        [event("w-1", "TriggeredScaleUp", "pod triggered scale-up: [{gpu 0->1 (max: 4)}]")],
        f"starting a worker: a node is being added for pod w-1 ({LACKING})",
    ),
    "a node is being added by Karpenter, after it could not be": (
        [pod("w-1", **NO_NODE)],
        [
            event("w-1", "FailedScheduling", "no instance type", component="karpenter"),
            event("w-1", "Nominated", "Pod should schedule on: x", at="2026-11-21T10:01:00Z"),
        ],
        f"starting a worker: a node is being added for pod w-1 ({LACKING})",
    ),
    "no capacity, says the cluster autoscaler": (
        [pod("w-1", **NO_NODE)],
        [
            event("w-1", "TriggeredScaleUp", "pod triggered scale-up"),
            event(
                "w-1",
                "FailedScaleUp",
                "Node scale up failed: GCE out of resources.",
                at="2026-11-21T10:01:00Z",
            ),
        ],
        "no capacity: no node can be added for pod w-1 (Node scale up failed: GCE out of resources)",
    ),
    "no capacity, says Karpenter": (
        [pod("w-1", **NO_NODE)],
        [
            event(
                "w-1", "FailedScheduling", "all instance types are exhausted", component="karpenter"
            )
        ],
        "no capacity: no node can be added for pod w-1 (all instance types are exhausted)",
    ),
    "the image is pulled": (
        [pod("w-1", **on_node(CREATING))],
        [event("w-1", "Pulling", 'Pulling image "sfumato-worker"', component="kubelet")],
        "starting a worker: pod w-1 is pulling the image",
    ),
    "the image is there": (
        [pod("w-1", **on_node(CREATING))],
        [
            event("w-1", "Pulling", component="kubelet"),
            event("w-1", "Pulled", component="kubelet", at="2026-11-21T10:00:09Z"),
        ],
        "starting a worker: pod w-1 is being made",
    ),
    "a volume is waited for": (
        [pod("w-1", **on_node(CREATING))],
        [event("w-1", "FailedMount", 'configmap "models" not found', component="kubelet")],
        'starting a worker: pod w-1 is being made (configmap "models" not found)',
    ),
    "no such image": (
        [pod("w-1", **on_node(waiting("ErrImagePull", "ghcr.io/x: not found")))],
        [],
        "the worker's image can't be pulled: ghcr.io/x: not found",
    ),
    "no such image, between two tries": (
        [pod("w-1", **on_node(waiting("ImagePullBackOff", 'Back-off pulling image "x"')))],
        [event("w-1", "Failed", 'Failed to pull image "x": not found', component="kubelet")],
        "the worker's image can't be pulled: Failed to pull image \"x\": not found",
    ),
    "a Secret is missing": (
        [pod("w-1", **on_node(waiting("CreateContainerConfigError", 'secret "t" not found')))],
        [],
        "the worker's container can't be made: secret \"t\" not found",
    ),
    "it crashes again and again": (
        [
            pod(
                "w-1",
                **on_node(
                    waiting("CrashLoopBackOff", restartCount=3, lastState=ended(137, "OOMKilled")),
                    phase="Running",
                ),
            )
        ],
        [],
        "the worker crashed 3 times: out of memory",
    ),
    "it has just crashed": (
        [pod("w-1", **on_node({"state": ended(1), "restartCount": 0}, phase="Running"))],
        [],
        "the worker crashed once: exit status 1",
    ),
    "Jobs crash one after another, and another starts": (
        [
            pod("w-1", **on_node({"state": ended(1)}, phase="Failed")),
            pod(
                "w-2",
                created="2026-11-21T10:01:00Z",
                **on_node({"state": ended(137, "OOMKilled")}, phase="Failed"),
            ),
            pod("w-3", created="2026-11-21T10:02:00Z", **NO_NODE),
        ],
        [],
        f"starting a worker: pod w-3 waits for a node ({LACKING}); {TWO_CRASHES}",
    ),
    "a Job ran into its deadline": (
        [pod("w-1", phase="Failed", reason="DeadlineExceeded", message="Pod was active too long")],
        [],
        "the worker crashed once: Pod was active too long",
    ),
    "a spot machine was lost, which is no crash": (
        [
            pod(
                "w-1",
                phase="Failed",
                conditions=[
                    {
                        "type": "DisruptionTarget",
                        "status": "True",
                        "message": "the node is shut down",
                    }
                ],
                containerStatuses=[{"state": ended(137)}],
            )
        ],
        [],
        "starting a worker: pod w-1 was lost with its node (the node is shut down)",
    ),
    "it opens its engine": (
        [pod("w-1", **on_node({"state": {"running": {}}}, phase="Running"))],
        [],
        "starting a worker: pod w-1 is up, and opens its engine",
    ),
    "one is at work, and another has no node": (
        [
            pod(
                "w-1",
                phase="Running",
                conditions=[{"type": "Ready", "status": "True"}],
                containerStatuses=[{"state": {"running": {}}}],
            ),
            pod("w-2", **NO_NODE),
        ],
        [],
        None,
    ),
    "others' pods, done ones and those that go do not count": (
        [
            pod("w-1", runtime="large", **NO_NODE),
            pod("w-2", phase="Succeeded"),
            {**(going := pod("w-3")), "metadata": {**going["metadata"], "deletionTimestamp": "x"}},
        ],
        [],
        "starting a worker: the cluster has made no pod for it yet",
    ),
}


@pytest.mark.parametrize(("pods", "events", "told"), CASES.values(), ids=CASES.keys())
async def test_a_caller_is_told(
    server: ApiServer,
    api: KubernetesApi,
    pods: list[Thing],
    events: list[Thing],
    told: str | None,
) -> None:
    server.pods, server.events = pods, [event("other", "FailedScaleUp", "not ours"), *events]
    view = KubernetesClusterView(api, namespace="pictures")
    assert why_pods_are_awaited(await view.worker_pods("default")) == told


async def test_what_is_no_api_server_is_unavailable(server: ApiServer, api: KubernetesApi) -> None:
    server.pods = [{"metadata": {"labels": {"sfumato.dev/runtime": "default"}}}]
    with pytest.raises(Unavailable, match="unknown here"):
        await KubernetesClusterView(api, namespace="pictures").worker_pods("default")


class Scripted:
    """A cluster that answers what it is told to, when it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.answering = asyncio.Event()
        self.error: Exception | None = None

    async def worker_pods(self, runtime: str) -> Sequence[WorkerPod]:
        self.asked += 1
        await self.answering.wait()
        if self.error is not None:
            raise self.error
        return [WorkerPod(f"{runtime}-{self.asked}", PodState.PULLING)]


async def test_it_is_asked_once_for_all_who_ask_at_once_and_again_later() -> None:
    view = Scripted()
    reasons = ClusterReasons(view, clock=SystemClock(), max_age=0.2, patience=30)
    asking = [asyncio.create_task(reasons.why_waiting("r")) for _ in range(5)]
    await asyncio.sleep(0)
    asking[0].cancel()
    view.answering.set()
    assert {await each for each in asking[1:]} == {
        "starting a worker: pod r-1 is pulling the image"
    }
    assert view.asked == 1
    while await reasons.why_waiting("r") != "starting a worker: pod r-2 is pulling the image":
        await asyncio.sleep(0.01)
    assert view.asked == 2


async def test_many_who_ask_one_after_another_wait_once() -> None:
    clock = SystemClock()
    reasons = ClusterReasons(Scripted(), clock=clock, max_age=3600, patience=1.0)
    before = clock.monotonic()
    for _ in range(50):
        assert await reasons.why_waiting("r") is None
    assert clock.monotonic() - before < 25  # and not fifty times a second


async def test_a_cluster_that_does_not_answer_breaks_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    view = Scripted()
    reasons = ClusterReasons(view, clock=SystemClock(), max_age=0.1, patience=0.01)
    with caplog.at_level(logging.WARNING):
        assert await reasons.why_waiting("r") is None
        while not caplog.messages:  # its time is over
            await asyncio.sleep(0.01)
        view.error = Unavailable("away")
        view.answering.set()
        while view.asked < 3:
            assert await reasons.why_waiting("r") is None
            await asyncio.sleep(0.01)
    assert len(caplog.messages) == 1
