"""A worker may annotate its own pod and do nothing else: the admission policy, evaluated."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from cel import evaluate

from tests.support.chart import Manifest
from tests.support.chart_runtimes import render_runtime

ACCOUNT = "system:serviceaccount:pictures:sfumato-worker"
OWN = "a worker may change its own pod alone"
ANNOTATIONS = "of its annotations, a worker may change those that say whether it is busy"

POD: Manifest = {
    "metadata": {
        "uid": "u-1",
        "labels": {"sfumato.dev/runtime": "r"},
        "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"},
        "ownerReferences": [{"uid": "replica-set"}],
    },
    "spec": {"nodeName": "gpu-1"},
}
BUSY = {"controller.kubernetes.io/pod-deletion-cost": "100", "karpenter.sh/do-not-disrupt": "true"}


@pytest.fixture(scope="module")
def policy() -> Manifest:
    found = render_runtime().find("ValidatingAdmissionPolicy", "pictures-sfumato-worker")
    spec: Manifest = found["spec"]
    return spec


def refusals(
    policy: Manifest, before: Manifest, after: Manifest, *, from_pod: str | None = "u-1"
) -> list[str]:
    extra = {} if from_pod is None else {"authentication.kubernetes.io/pod-uid": [from_pod]}
    given: dict[str, Any] = {
        "request": {"userInfo": {"username": ACCOUNT, "extra": extra}},
        "oldObject": before,
        "object": after,
    }
    assert evaluate(policy["matchConditions"][0]["expression"], given) is True
    variables = {each["name"]: evaluate(each["expression"], given) for each in policy["variables"]}
    given["variables"] = variables
    return [
        each["message"]
        for each in policy["validations"]
        if evaluate(each["expression"], given) is not True
    ]


def changed(change: Callable[[Manifest], object], pod: Manifest = POD) -> Manifest:
    pod = copy.deepcopy(pod)
    change(pod)
    return pod


def busy(pod: Manifest) -> None:
    pod["metadata"].setdefault("annotations", {}).update(BUSY)


def idle(pod: Manifest) -> None:
    pod["metadata"]["annotations"]["controller.kubernetes.io/pod-deletion-cost"] = "0"
    pod["metadata"]["annotations"].pop("karpenter.sh/do-not-disrupt", None)


def test_busy_and_idle_again(policy: Manifest) -> None:
    working = changed(busy)
    assert refusals(policy, POD, working) == []
    assert refusals(policy, working, changed(idle, working)) == []


def test_a_pod_that_had_no_annotation_yet(policy: Manifest) -> None:
    bare = changed(lambda pod: pod["metadata"].pop("annotations"))
    assert refusals(policy, bare, changed(busy, bare)) == []


@pytest.mark.parametrize("from_pod", ["u-2", None], ids=["another's", "a token of no pod"])
def test_another_pod_is_not_its_own(policy: Manifest, from_pod: str | None) -> None:
    assert refusals(policy, POD, changed(busy), from_pod=from_pod) == [OWN]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda pod: pod["metadata"]["annotations"].update({"a": "b"}), ANNOTATIONS),
        (lambda pod: pod["metadata"]["annotations"].clear(), ANNOTATIONS),
        (
            lambda pod: pod["metadata"]["annotations"].update(
                {"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"}
            ),
            ANNOTATIONS,
        ),
        (
            lambda pod: pod["metadata"].update({"labels": {}}),
            "a worker may not change its pod's labels",
        ),
        (
            lambda pod: pod["spec"].update({"activeDeadlineSeconds": 1}),
            "a worker may not change its pod's spec",
        ),
        (
            lambda pod: pod["metadata"].update({"finalizers": ["a.example.com/b"]}),
            "a worker may not change who owns its pod, or what its end waits for",
        ),
        (
            lambda pod: pod["metadata"].pop("ownerReferences"),
            "a worker may not change who owns its pod, or what its end waits for",
        ),
    ],
    ids=["another's", "all", "a value", "labels", "spec", "finalizers", "owner"],
)
def test_nothing_else_of_its_pod(
    policy: Manifest, change: Callable[[Manifest], object], message: str
) -> None:
    assert refusals(policy, POD, changed(change)) == [message]


def test_nobody_else_is_held_to_it(policy: Manifest) -> None:
    condition = policy["matchConditions"][0]["expression"]
    kubelet = {"request": {"userInfo": {"username": "system:node:gpu-1"}}}
    assert evaluate(condition, kubelet) is False
