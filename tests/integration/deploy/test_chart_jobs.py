"""Workers as Jobs, one for each job: a test for each setting that must not get lost."""

from __future__ import annotations

from typing import Any

from tests.support.chart import Manifest, by_name, environment
from tests.support.chart_runtimes import TRIGGERS, render_runtime


def scaled_job(**runtime: Any) -> Manifest:
    return render_runtime({"scaling": "job", **runtime}).find("ScaledJob", "worker-r")["spec"]


def test_a_job_is_for_one_job_and_claims_it_before_it_loads_anything() -> None:
    (container,) = scaled_job()["jobTargetRef"]["template"]["spec"]["containers"]
    assert container["args"][-1] == "--once"
    for by, trigger in TRIGGERS.items():
        if by != "external-push":
            metadata = scaled_job(trigger={"type": by, **trigger})["triggers"][0]["metadata"]
            targets = ("targetValue", "value", "queueLength", "targetQueryValue")
            assert [metadata[key] for key in targets if key in metadata] == ["1"]


def test_the_strategy_is_right_for_a_metric_that_counts_what_runs() -> None:
    spec = scaled_job()
    assert spec["scalingStrategy"] == {"strategy": "default"}
    assert spec["triggers"][0]["metadata"]["valueLocation"] == "open"


def test_jobs_that_run_outlive_a_change_of_the_scaled_job() -> None:
    assert scaled_job()["rollout"]["strategy"] == "gradual"


def test_a_lost_spot_machine_is_nobodys_failure() -> None:
    target = scaled_job()["jobTargetRef"]
    assert target["podFailurePolicy"]["rules"] == [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    ]
    # Kubernetes takes a podFailurePolicy with this alone.
    assert target["template"]["spec"]["restartPolicy"] == "Never"
    assert 0 <= target["backoffLimit"] <= 2


def test_the_deadline_is_longer_than_a_boot_and_a_job() -> None:
    target = scaled_job()["jobTargetRef"]
    pod = target["template"]["spec"]
    probe = pod["containers"][0]["startupProbe"]
    boot = probe["failureThreshold"] * probe["periodSeconds"]
    assert target["activeDeadlineSeconds"] >= 1800 + boot + pod["terminationGracePeriodSeconds"]


def test_what_has_ended_does_not_pile_up() -> None:
    spec = scaled_job()
    assert spec["jobTargetRef"]["ttlSecondsAfterFinished"] == 300
    assert spec["successfulJobsHistoryLimit"] == spec["failedJobsHistoryLimit"] == 3


def test_sidecars_are_native_and_end_with_the_worker() -> None:
    sidecar = {"name": "log", "image": "example.com/log@sha256:" + "ab" * 32}
    pod = scaled_job(extraSidecars=[sidecar])["jobTargetRef"]["template"]["spec"]
    container = by_name(pod["initContainers"], "log")
    assert container["restartPolicy"] == "Always"
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert [each["name"] for each in pod["containers"]] == ["worker"]


def test_a_job_is_busy_for_as_long_as_it_lives() -> None:
    annotations = scaled_job()["jobTargetRef"]["template"]["metadata"]["annotations"]
    assert annotations["karpenter.sh/do-not-disrupt"] == "true"
    assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"


def test_it_drains_like_any_worker() -> None:
    pod = scaled_job()["jobTargetRef"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 600
    assert environment(pod["containers"][0])["SFUMATO_GRACE"] == "570"
