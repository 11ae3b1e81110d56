"""Worker pods as the API server tells of them, and what they wait for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sfumato.adapters.kubernetes.api import KubernetesApi
from sfumato.core.errors import Unavailable
from sfumato.core.ports import PodState, WorkerPod

#: The label of the pods of a runtime's workers.
RUNTIME_LABEL = "sfumato.dev/runtime"
_LONGEST_DETAIL = 200

_UNPULLABLE = frozenset(
    ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
)
_MISCONFIGURED = frozenset(
    ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
)
#: Why a pod has failed whose container did not: its node went, or room was made on it.
_LOST = frozenset(("Evicted", "NodeLost", "NodeShutdown", "Preempting", "Shutdown", "Terminated"))

#: Reasons of events of pods that no node has room for: of the cluster autoscaler, of GKE's,
#: and of Karpenter.
_NODE_COMES = frozenset(("TriggeredScaleUp", "Nominated"))
_NO_NODE_COMES = frozenset(("NotTriggerScaleUp", "FailedScaleUp"))
_KARPENTER = "karpenter"


class KubernetesClusterView:
    """Implements :class:`sfumato.core.ports.ClusterView`."""

    def __init__(self, api: KubernetesApi, *, namespace: str) -> None:
        self._api = api
        self._namespace = namespace

    async def worker_pods(self, runtime: str) -> Sequence[WorkerPod]:
        labels = f"{RUNTIME_LABEL}={runtime}"
        pods = await self._api.list_pods(self._namespace, labels=labels)
        # The events of pods that run say nothing about what is waited for.
        try:
            waiting = any(_phase(pod) == "Pending" for pod in pods)
            events = await self._api.list_pod_events(self._namespace) if waiting else []
            return _read_all(pods, events)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise Unavailable(
                f"The API server tells of pods in a way unknown here: {error!r}."
            ) from error


def _read_all(
    pods: Sequence[Mapping[str, Any]], events: Sequence[Mapping[str, Any]]
) -> Sequence[WorkerPod]:
    open_pods = [
        pod
        for pod in pods
        if "deletionTimestamp" not in pod["metadata"] and _phase(pod) != "Succeeded"
    ]
    open_pods.sort(key=lambda pod: str(pod["metadata"]["creationTimestamp"]), reverse=True)
    return [_read(pod, _events_of(pod, events)) for pod in open_pods]


def _read(pod: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> WorkerPod:
    """A pod, with its events, the latest first."""
    crashes, last_crash = _crashes(pod)
    state, detail = _state(pod, events)
    return WorkerPod(
        name=pod["metadata"]["name"],
        state=state,
        detail=_line(detail),
        crashes=crashes if state is not PodState.LOST else 0,
        last_crash=last_crash and _line(last_crash),
    )


def _state(pod: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> tuple[PodState, str]:
    if _phase(pod) == "Failed":
        return (PodState.LOST, _loss(pod)) if _is_lost(pod) else (PodState.CRASHING, "")
    unscheduled = _condition(pod, "PodScheduled", "False")
    if unscheduled is not None:
        return _awaited_node(unscheduled.get("message", ""), events)
    for container in _containers(pod):
        state = container.get("state", {})
        if state.get("terminated", {}).get("exitCode", 0) != 0:
            return PodState.CRASHING, ""
        if "waiting" in state:
            return _waiting_container(state["waiting"], events)
    if _condition(pod, "Ready", "True") is not None:
        return PodState.RUNNING, ""
    if _phase(pod) == "Running":
        return PodState.STARTING, ""
    return _being_made(events)


def _waiting_container(
    waiting: Mapping[str, Any], events: Sequence[Mapping[str, Any]]
) -> tuple[PodState, str]:
    reason = str(waiting.get("reason"))
    if reason in _UNPULLABLE:
        return PodState.UNPULLABLE, _why_unpullable(waiting, events)
    if reason in _MISCONFIGURED:
        return PodState.MISCONFIGURED, str(waiting.get("message", reason))
    return (PodState.CRASHING, "") if reason == "CrashLoopBackOff" else _being_made(events)


def _awaited_node(message: str, events: Sequence[Mapping[str, Any]]) -> tuple[PodState, str]:
    """What becomes of a pod that no node has room for: the latest word of who adds nodes."""
    # What preemption would do is of interest to nobody who waits for a picture.
    lacking = message.partition(" preemption:")[0]
    for event in events:
        reason, said = event.get("reason"), event.get("message", "")
        if reason in _NODE_COMES:
            return PodState.AWAITING_NODE, lacking
        by_karpenter = reason == "FailedScheduling" and _KARPENTER in _source(event)
        if reason in _NO_NODE_COMES or by_karpenter:
            return PodState.NO_CAPACITY, said or lacking
    return PodState.UNSCHEDULABLE, lacking


def _being_made(events: Sequence[Mapping[str, Any]]) -> tuple[PodState, str]:
    for event in events:
        match event.get("reason"):
            case "Pulling":
                return PodState.PULLING, ""
            case "FailedMount" | "FailedAttachVolume" | "FailedCreatePodSandBox":
                return PodState.PREPARING, event.get("message", "")
            case "Pulled" | "Created" | "Started":
                break
    return PodState.PREPARING, ""


def _why_unpullable(waiting: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> str:
    """While the kubelet waits for its next try, the container's own message tells no reason."""
    if waiting.get("reason") != "ImagePullBackOff":
        return str(waiting.get("message", waiting.get("reason")))
    failed = (
        event.get("message", "")
        for event in events
        if event.get("reason") == "Failed" and "pull" in event.get("message", "")
    )
    return next(failed, str(waiting.get("message", "")))


def _crashes(pod: Mapping[str, Any]) -> tuple[int, str | None]:
    """How often the pod's containers have failed, and how the last time ended."""
    count, last = 0, None
    for container in _containers(pod):
        state, before = container.get("state", {}), container.get("lastState", {})
        for ended in (before.get("terminated"), state.get("terminated")):
            if ended is not None and ended.get("exitCode") != 0:
                last = _ending(ended)
                count += ended is state.get("terminated")
        count += container.get("restartCount", 0)
    if last is None and _phase(pod) == "Failed":  # the pod as a whole, as by its deadline
        last = pod["status"].get("message") or pod["status"].get("reason") or "failed"
    return (0, None) if last is None else (max(1, count), str(last))


def _ending(ended: Mapping[str, Any]) -> str:
    reason = ended.get("reason")
    if reason in (None, "Error"):
        return f"exit status {ended.get('exitCode')}"
    return "out of memory" if reason == "OOMKilled" else str(reason)


def _is_lost(pod: Mapping[str, Any]) -> bool:
    target = _condition(pod, "DisruptionTarget", "True")
    return target is not None or pod["status"].get("reason") in _LOST


def _loss(pod: Mapping[str, Any]) -> str:
    target = _condition(pod, "DisruptionTarget", "True") or {}
    return str(target.get("message") or pod["status"].get("message") or "")


def _phase(pod: Mapping[str, Any]) -> str:
    return str(pod.get("status", {}).get("phase", "Pending"))


def _condition(pod: Mapping[str, Any], kind: str, status: str) -> Mapping[str, Any] | None:
    for condition in pod["status"].get("conditions", ()):
        if (condition["type"], condition["status"]) == (kind, status):
            found: Mapping[str, Any] = condition
            return found
    return None


def _containers(pod: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    status = pod["status"]
    yield from status.get("initContainerStatuses", ())
    yield from status.get("containerStatuses", ())


def _events_of(
    pod: Mapping[str, Any], events: Iterable[Mapping[str, Any]]
) -> Sequence[Mapping[str, Any]]:
    uid = pod["metadata"].get("uid")
    own = (event for event in events if event["involvedObject"].get("uid") == uid)
    return sorted(own, key=_happened_at, reverse=True)


def _happened_at(event: Mapping[str, Any]) -> str:
    """RFC 3339, in UTC: in the order of time."""
    series = event.get("series") or {}
    return str(
        series.get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or event["metadata"].get("creationTimestamp")
        or ""
    )


def _source(event: Mapping[str, Any]) -> str:
    return str(event.get("reportingComponent") or event.get("source", {}).get("component") or "")


def _line(text: str) -> str:
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= _LONGEST_DETAIL else f"{line[: _LONGEST_DETAIL - 1]}…"
