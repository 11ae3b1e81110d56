"""Workers as a Deployment: a test for each setting that must not get lost, and why it is there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.chart import Manifest, by_name, environment
from tests.support.chart_runtimes import render_runtime

NAME = "worker-r"


def scaled_object(**runtime: Any) -> Manifest:
    return render_runtime(runtime).find("ScaledObject", NAME)["spec"]


def deployment(**runtime: Any) -> Manifest:
    return render_runtime(runtime).find("Deployment", NAME)["spec"]


def pod(**runtime: Any) -> Manifest:
    return deployment(**runtime)["template"]["spec"]


def worker(**runtime: Any) -> Manifest:
    return by_name(pod(**runtime)["containers"], "worker")


# -- how many there are ----------------------------------------------------------------------------


def test_there_are_none_without_work_and_at_most_what_is_allowed() -> None:
    spec = scaled_object(replicas={"max": 7})
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (0, 7)


def test_work_is_seen_within_five_seconds() -> None:
    assert scaled_object()["pollingInterval"] == 5


def test_a_model_in_memory_is_kept_for_five_minutes_and_a_booting_node_for_ten() -> None:
    spec = scaled_object()
    assert spec["cooldownPeriod"] == 300
    assert spec["initialCooldownPeriod"] >= 600


def test_one_open_job_starts_a_worker_and_more_share_its_batch() -> None:
    metadata = scaled_object(jobsPerWorker=3)["triggers"][0]["metadata"]
    assert metadata["activationTargetValue"] == "0"
    assert metadata["targetValue"] == "3"


def test_scaling_up_is_at_once_and_down_is_slow() -> None:
    behaviour = scaled_object()["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behaviour["scaleUp"] == {
        "stabilizationWindowSeconds": 0,
        "selectPolicy": "Max",
        "policies": [
            {"type": "Percent", "value": 100, "periodSeconds": 15},
            {"type": "Pods", "value": 4, "periodSeconds": 15},
        ],
    }
    assert behaviour["scaleDown"]["stabilizationWindowSeconds"] == 300
    assert behaviour["scaleDown"]["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 60}]


def test_a_service_that_does_not_answer_takes_no_worker_away() -> None:
    assert scaled_object()["fallback"] == {
        "failureThreshold": 3,
        "replicas": 1,
        "behavior": "currentReplicasIfHigher",
    }


def test_installing_starts_no_gpu() -> None:
    assert deployment()["replicas"] == 0
    assert "replicas" not in deployment(replicas={"initial": None})


def test_what_keda_does_can_be_paused() -> None:
    rendered = render_runtime({"scaledObject": {"paused": True}}).find("ScaledObject", NAME)
    assert rendered["metadata"]["annotations"] == {"autoscaling.keda.sh/paused": "true"}


# -- what asks for them ----------------------------------------------------------------------------


def test_metrics_api_asks_the_service_with_a_key() -> None:
    rendered = render_runtime()
    (trigger,) = rendered.find("ScaledObject", NAME)["spec"]["triggers"]
    assert trigger["metadata"] == {
        "url": "http://sfumato-api.pictures.svc:8080/v1/scaling/r",
        "valueLocation": "open",
        "targetValue": "4",
        "activationTargetValue": "0",
        "authMode": "bearer",
    }
    shown = rendered.find("TriggerAuthentication", trigger["authenticationRef"]["name"])
    assert shown["spec"]["secretTargetRef"] == [
        {"parameter": "token", "name": "sfumato-credentials", "key": "scaling-key"}
    ]


def test_rabbitmq_is_asked_for_what_workers_hold_too() -> None:
    trigger = {"type": "rabbitmq", "existingSecret": {"name": "broker", "key": "management"}}
    rendered = render_runtime({"trigger": trigger})
    metadata = rendered.find("ScaledObject", NAME)["spec"]["triggers"][0]["metadata"]
    assert metadata["protocol"] == "http"
    assert metadata["excludeUnacknowledged"] == "false"
    assert metadata["queueName"] == "sfumato.r"
    shown = rendered.find("TriggerAuthentication", NAME)["spec"]["secretTargetRef"]
    assert shown == [{"parameter": "host", "name": "broker", "key": "management"}]


def test_the_bundled_rabbitmq_is_asked_at_its_management_api() -> None:
    rendered = render_runtime({"trigger": {"type": "rabbitmq"}}, {"rabbitmq": {"enabled": True}})
    (shown,) = rendered.find("TriggerAuthentication", NAME)["spec"]["secretTargetRef"]
    secret = rendered.find("Secret", shown["name"])
    assert secret["stringData"][shown["key"]].startswith("http://")


def test_sqs_is_asked_for_what_workers_hold_too_in_the_triggers_own_metadata() -> None:
    trigger = {"type": "aws-sqs-queue", "aws": {"region": "eu-west-1", "account": "111122223333"}}
    rendered = render_runtime({"trigger": trigger})
    spec = rendered.find("ScaledObject", NAME)["spec"]
    metadata = spec["triggers"][0]["metadata"]
    assert metadata["queueURL"] == "https://sqs.eu-west-1.amazonaws.com/111122223333/sfumato-r"
    assert (metadata["scaleOnInFlight"], metadata["scaleOnDelayed"]) == ("true", "false")
    assert metadata["activationQueueLength"] == "0"
    assert "scaleOnInFlight" not in spec
    shown = rendered.find("TriggerAuthentication", NAME)["spec"]
    assert shown == {"podIdentity": {"provider": "aws"}}


def test_postgresql_is_asked_for_jobs_that_wait_or_run() -> None:
    rendered = render_runtime({"trigger": {"type": "postgresql"}})
    metadata = rendered.find("ScaledObject", NAME)["spec"]["triggers"][0]["metadata"]
    assert metadata["query"] == (
        "SELECT COALESCE(COUNT(*), 0) FROM jobs WHERE runtime = 'r' "
        "AND status IN ('queued', 'running')"
    )
    assert metadata["activationTargetQueryValue"] == "0"
    shown = rendered.find("TriggerAuthentication", NAME)["spec"]["secretTargetRef"]
    assert shown == [{"parameter": "connection", "name": "sfumato-database", "key": "url"}]


def test_external_push_is_told_by_the_service() -> None:
    rendered = render_runtime({"trigger": {"type": "external-push"}})
    (trigger,) = rendered.find("ScaledObject", NAME)["spec"]["triggers"]
    address = trigger["metadata"]["scalerAddress"]
    assert address == "sfumato-api-internal.pictures.svc:9091"
    service = rendered.find("Service", address.partition(".")[0])
    assert by_name(service["spec"]["ports"], "scaler")["port"] == 9091
    assert trigger["metadata"]["runtime"] == "r"
    assert not rendered.all("TriggerAuthentication")


def test_the_service_knows_the_runtimes_whose_workers_take_jobs_from_it() -> None:
    runtimes = [
        {"name": "a", "models": ["sd-turbo"], "gpu": {"class": "l4"}, "gpuHourPrice": 0.7},
        {"name": "b", "scaling": "job"},
        {"name": "c", "scaling": "knative"},
    ]
    api = render_runtime(others={"runtimes": runtimes}).find("Deployment", "api")
    told = environment(api["spec"]["template"]["spec"]["containers"][0])["SFUMATO_RUNTIMES"]
    assert json.loads(told) == [
        {"name": "a", "models": ["sd-turbo"], "gpu_class": "l4", "gpu_hour_price": 0.7},
        {"name": "b"},
    ]


# -- how they end ----------------------------------------------------------------------------------


def test_a_running_job_gets_ten_minutes_and_the_rest_is_handed_over_before_the_kill() -> None:
    spec = pod()
    assert spec["terminationGracePeriodSeconds"] == 600
    assert int(environment(worker())["SFUMATO_GRACE"]) == 570
    assert int(environment(worker(terminationGracePeriodSeconds=90))["SFUMATO_GRACE"]) == 60
    # SIGTERM alone: a sleep here would only shorten the grace.
    assert "lifecycle" not in worker()


def test_an_idle_worker_leaves_its_end_to_keda() -> None:
    args = worker()["args"]
    assert args[args.index("--idle-timeout") + 1] == "0"


def test_a_rollout_never_waits_for_a_gpu_that_the_old_worker_holds() -> None:
    strategy = deployment()["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert deployment()["minReadySeconds"] == 10


def test_a_new_version_of_the_chart_alone_starts_no_worker_anew() -> None:
    labels = deployment()["template"]["metadata"]["labels"]
    assert not labels.keys() & {"helm.sh/chart", "app.kubernetes.io/version"}


def test_drained_nodes_give_up_one_worker_at_a_time() -> None:
    budget = render_runtime().find("PodDisruptionBudget", NAME)["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    labels = deployment()["template"]["metadata"]["labels"]
    assert budget["selector"]["matchLabels"].items() <= labels.items()


# -- whether they live -----------------------------------------------------------------------------


def test_probes_ask_for_the_engine_the_model_and_the_heartbeat() -> None:
    container = worker()
    assert {kind: container[kind]["httpGet"] for kind in PROBES} == {
        kind: {"path": path, "port": "metrics"} for kind, path in PROBES.items()
    }
    assert by_name(container["ports"], "metrics")["containerPort"] == 9090
    assert environment(container)["SFUMATO_INTERNAL_PORT"] == "9090"
    startup = container["startupProbe"]
    assert startup["failureThreshold"] * startup["periodSeconds"] >= 600


PROBES = {"startupProbe": "/startupz", "readinessProbe": "/readyz", "livenessProbe": "/livez"}


# -- who goes first, and who may say so -----------------------------------------------------------


def test_a_worker_says_on_its_own_pod_that_it_is_busy() -> None:
    spec = pod()
    variables = environment(worker())
    assert variables["SFUMATO_POD_NAME"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert variables["SFUMATO_POD_NAMESPACE"] == {"fieldRef": {"fieldPath": "metadata.namespace"}}
    assert spec["serviceAccountName"] == "sfumato-worker"
    token = by_name(spec["volumes"], "pod-token")["projected"]["sources"][0]["serviceAccountToken"]
    assert token["expirationSeconds"] <= 3600


def test_it_may_patch_pods_and_nothing_else() -> None:
    rendered = render_runtime()
    role = rendered.find("Role", "sfumato-worker")
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["patch"]}]
    (subject,) = rendered.find("RoleBinding", "sfumato-worker")["subjects"]
    assert subject["name"] == "sfumato-worker"


def test_of_pods_it_may_patch_its_own_alone() -> None:
    rendered = render_runtime()
    policy = rendered.find("ValidatingAdmissionPolicy", "pictures-sfumato-worker")["spec"]
    assert policy["failurePolicy"] == "Fail"
    (condition,) = policy["matchConditions"]
    assert "'system:serviceaccount:pictures:sfumato-worker'" in condition["expression"]
    own = policy["validations"][0]["expression"]
    assert "request.userInfo.extra['authentication.kubernetes.io/pod-uid']" in own
    assert "uid == object.metadata.uid" in own
    binding = rendered.find("ValidatingAdmissionPolicyBinding", "pictures-sfumato-worker")["spec"]
    assert binding["validationActions"] == ["Deny"]
    assert binding["policyName"] == "pictures-sfumato-worker"


@pytest.mark.parametrize(
    "runtime",
    [{"selfAnnotate": {"enabled": False}}, {"scaling": "job"}, {"scaling": "knative"}],
    ids=["switched off", "job", "knative"],
)
def test_without_that_there_is_no_token_and_no_right(runtime: dict[str, Any]) -> None:
    rendered = render_runtime(runtime)
    rights = ("ServiceAccount", "Role", "RoleBinding", "ValidatingAdmissionPolicy")
    named = [each["metadata"]["name"] for each in rendered.all(*rights)]
    assert not [name for name in named if name.endswith("-worker")]
    for manifest in rendered.all("Deployment", "ScaledJob", "Service"):
        assert "pod-token" not in str(manifest)


def test_a_picture_that_somebody_waits_for_goes_before_one_that_nobody_does() -> None:
    rendered = render_runtime({"priority": "batch"})
    interactive = rendered.find("PriorityClass", "pictures-sfumato-interactive")
    batch = rendered.find("PriorityClass", "pictures-sfumato-batch")
    assert interactive["value"] > batch["value"]
    assert batch["preemptionPolicy"] == "Never"
    spec = rendered.find("Deployment", NAME)["spec"]["template"]["spec"]
    assert spec["priorityClassName"] == "pictures-sfumato-batch"
    assert pod(priority="my-own")["priorityClassName"] == "my-own"


# -- where they may land, and what they may do there -----------------------------------------------


def test_zones_are_preferred_never_required() -> None:
    (spread,) = pod()["topologySpreadConstraints"]
    assert spread["whenUnsatisfiable"] == "ScheduleAnyway"


def test_gpu_and_spot_taints_are_tolerated() -> None:
    keys = {toleration["key"] for toleration in pod()["tolerations"]}
    assert keys == {
        "nvidia.com/gpu",
        "cloud.google.com/gke-spot",
        "kubernetes.azure.com/scalesetpriority",
        "karpenter.sh/capacity-type",
    }
    reserved = pod(gpu={"class": "l4", "platform": "gke", "capacity": "on-demand"})
    assert {toleration["key"] for toleration in reserved["tolerations"]} == {"nvidia.com/gpu"}
    assert "tolerations" not in pod(gpu={"count": 0})


def test_memory_and_disk_are_asked_for_and_bounded() -> None:
    resources = worker()["resources"]
    assert {"cpu", "memory", "ephemeral-storage"} <= resources["requests"].keys()
    assert resources["limits"]["memory"] == resources["requests"]["memory"]
    assert "cpu" not in resources["limits"]
    volumes = [each for each in pod()["volumes"] if "emptyDir" in each]
    assert all("sizeLimit" in volume["emptyDir"] for volume in volumes)


def test_the_network_lets_workers_to_the_api_and_to_buckets_alone() -> None:
    rendered = render_runtime()
    policy = rendered.find("NetworkPolicy", "sfumato-worker")["spec"]
    labels = deployment()["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    ports = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
    assert ports == {8080, 443, 6443}


def test_images_go_by_digest_where_there_is_one() -> None:
    digest = "sha256:" + "12" * 32
    rendered = render_runtime(others={"images": {"worker": {"digest": digest}}})
    spec = rendered.find("Deployment", NAME)["spec"]["template"]["spec"]
    assert spec["containers"][0]["image"] == f"ghcr.io/sfumato/sfumato-worker@{digest}"


def test_values_of_all_are_laid_below_those_of_one() -> None:
    others = {"workers": {"maxJobs": 2, "env": {"A": "all"}, "gpu": {"class": "l4"}}}
    rendered = render_runtime({"env": {"B": "one"}, "gpu": {"platform": "gke"}}, others)
    spec = rendered.find("Deployment", NAME)["spec"]["template"]["spec"]
    variables = environment(spec["containers"][0])
    assert (variables["A"], variables["B"], variables["SFUMATO_MAX_JOBS"]) == ("all", "one", "2")
    assert spec["nodeSelector"] == {"cloud.google.com/gke-accelerator": "nvidia-l4"}
