"""GPUs: which, how they are shared, what that leaves to each worker, and the nodes that have them."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
import yaml

from tests.support.chart import Manifest, Rendered, environment, merge
from tests.support.chart_runtimes import KARPENTER, render_runtime

EKS = {"class": "l4", "platform": "eks"}
SLICED = {**EKS, "sharing": {"mode": "time-slicing", "replicas": 4}}
POOL = "pictures-sfumato-l4-whole"
SLICED_POOL = "pictures-sfumato-l4-time-slicing-4"


def pod(gpu: dict[str, Any], **runtime: Any) -> Manifest:
    rendered = render_runtime({"gpu": gpu, **runtime})
    return rendered.find("Deployment", "worker-r")["spec"]["template"]["spec"]


def requests(gpu: dict[str, Any], **runtime: Any) -> dict[str, str]:
    return pod(gpu, **runtime)["containers"][0]["resources"]["requests"]


def fraction(gpu: dict[str, Any]) -> float | None:
    told = environment(pod(gpu)["containers"][0]).get("SFUMATO_GPU_MEMORY_FRACTION")
    return None if told is None else float(told)


def nodes(gpu: dict[str, Any], **karpenter: Any) -> Rendered:
    others = merge(KARPENTER, {"gpu": {"karpenter": karpenter}})
    return render_runtime({"gpu": gpu}, others)


# -- classes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpu", "selector"),
    [
        ({"class": "l4", "platform": "gke"}, {"cloud.google.com/gke-accelerator": "nvidia-l4"}),
        (EKS, {"karpenter.k8s.aws/instance-gpu-name": "l4"}),
        (
            {"class": "rtx-5000", "platform": "coreweave", "region": "ORD1"},
            {
                "gpu.nvidia.com/class": "Quadro_RTX_5000",
                "topology.kubernetes.io/region": "ORD1",
            },
        ),
        ({"class": "a40", "platform": "gfd"}, {"nvidia.com/gpu.product": "NVIDIA-A40"}),
        (
            {"class": "t4", "platform": "gke", "capacity": "spot"},
            {
                "cloud.google.com/gke-accelerator": "nvidia-tesla-t4",
                "cloud.google.com/gke-spot": "true",
            },
        ),
        (
            {**EKS, "capacity": "on-demand"},
            {
                "karpenter.k8s.aws/instance-gpu-name": "l4",
                "karpenter.sh/capacity-type": "on-demand",
            },
        ),
    ],
    ids=["gke", "eks", "coreweave", "gfd", "gke spot", "eks on demand"],
)
def test_a_class_is_found_by_its_platforms_label(
    gpu: dict[str, Any], selector: dict[str, str]
) -> None:
    assert pod(gpu)["nodeSelector"] == selector


def test_any_of_several_classes_will_do() -> None:
    spec = pod({**EKS, "alternatives": ["a10g", "l40s"]})
    affinity = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (term,) = affinity["nodeSelectorTerms"]
    assert term["matchExpressions"] == [
        {
            "key": "karpenter.k8s.aws/instance-gpu-name",
            "operator": "In",
            "values": ["l4", "a10g", "l40s"],
        }
    ]
    assert "nodeSelector" not in spec


def test_a_runtime_of_another_class_does_not_take_the_alternatives_of_all() -> None:
    others = {"workers": {"gpu": {"platform": "eks", "class": "l4", "alternatives": ["a10g"]}}}
    rendered = render_runtime({"gpu": {"class": "h100"}}, others)
    spec = rendered.find("Deployment", "worker-r")["spec"]["template"]["spec"]
    assert spec["nodeSelector"] == {"karpenter.k8s.aws/instance-gpu-name": "h100"}


def test_a_class_of_ones_own() -> None:
    classes = {"b200": {"memory": 178, "gfd": {"accelerator": "NVIDIA-B200"}}}
    runtime = {"gpu": {"class": "b200", "platform": "gfd"}}
    rendered = render_runtime(runtime, {"gpu": {"classes": classes}})
    spec = rendered.find("Deployment", "worker-r")["spec"]["template"]["spec"]
    assert spec["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-B200"}


# -- sharing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpu", "resource"),
    [
        ({}, "nvidia.com/gpu"),
        (SLICED, "nvidia.com/gpu.shared"),
        ({**EKS, "sharing": {"mode": "mps", "replicas": 2}}, "nvidia.com/gpu.shared"),
        ({"sharing": {"mode": "mig", "migProfile": "1g.10gb"}, "node": {"cpu": 64, "memory": 512}},
         "nvidia.com/mig-1g.10gb"),
        ({"class": "l4", "platform": "gke", "sharing": {"mode": "time-slicing", "replicas": 2}},
         "nvidia.com/gpu"),
    ],
    ids=["whole", "time slices", "mps", "mig", "gke calls a slice a GPU"],
)  # fmt: skip
def test_a_worker_takes_one_of_its_kind(gpu: dict[str, Any], resource: str) -> None:
    asked = requests(gpu)
    assert {key: value for key, value in asked.items() if "/" in key} == {resource: "1"}


def test_the_device_plugin_renames_slices_and_refuses_two_of_them() -> None:
    rendered = render_runtime({"gpu": SLICED})
    config = rendered.find("ConfigMap", "gpu-sharing")["data"]
    assert yaml.safe_load(config["time-slicing-4"])["sharing"] == {
        "timeSlicing": {
            "renameByDefault": True,
            "failRequestsGreaterThanOne": True,
            "resources": [{"name": "nvidia.com/gpu", "replicas": 4}],
        }
    }
    spec = rendered.find("Deployment", "worker-r")["spec"]["template"]["spec"]
    assert spec["nodeSelector"]["nvidia.com/device-plugin.config"] == "time-slicing-4"


def test_the_device_plugin_knows_mps_and_mig() -> None:
    runtimes = [
        {"name": "a", "gpu": {**EKS, "sharing": {"mode": "mps", "replicas": 2}}},
        {
            "name": "b",
            "gpu": {
                "sharing": {"mode": "mig", "migProfile": "2g.20gb"},
                "node": {"cpu": 64, "memory": 512, "gpus": 1},
            },
        },
    ]
    others = {"runtimes": runtimes, "gpu": {"devicePlugin": {"namespace": "gpu-operator"}}}
    config = render_runtime(others=others).find("ConfigMap", "gpu-sharing")
    assert config["metadata"]["namespace"] == "gpu-operator"
    assert yaml.safe_load(config["data"]["mps-2"])["sharing"]["mps"]["resources"] == [
        {"name": "nvidia.com/gpu", "replicas": 2}
    ]
    assert yaml.safe_load(config["data"]["mig"]) == {
        "version": "v1",
        "flags": {"migStrategy": "mixed"},
    }


def test_gke_is_asked_for_sharing_by_labels() -> None:
    sharing = {"mode": "time-slicing", "replicas": 3}
    spec = pod({"class": "l4", "platform": "gke", "sharing": sharing})
    assert spec["nodeSelector"] == {
        "cloud.google.com/gke-accelerator": "nvidia-l4",
        "cloud.google.com/gke-gpu-sharing-strategy": "time-sharing",
        "cloud.google.com/gke-max-shared-clients-per-gpu": "3",
    }
    sharing = {"mode": "mig", "migProfile": "1g.5gb"}
    spec = pod({"class": "a100-40", "platform": "gke", "sharing": sharing})
    assert spec["nodeSelector"]["cloud.google.com/gke-gpu-partition-size"] == "1g.5gb"


# -- what each gets --------------------------------------------------------------------------------


@pytest.mark.parametrize("slices", [2, 3, 4])
def test_slices_fit_their_node_and_their_gpu(slices: int) -> None:
    gpu = {**EKS, "sharing": {"mode": "time-slicing", "replicas": slices}}
    asked = requests(gpu)
    assert int(asked["cpu"].removesuffix("m")) * slices <= 4000 - 600
    assert int(asked["memory"].removesuffix("Mi")) * slices <= (16 - 3.5) * 1024
    share = fraction(gpu)
    assert share is not None
    # 22 GiB, and half a GiB of each process beside what torch counts.
    assert slices * (share * 22 + 0.5) <= 22
    assert share > 0.8 / slices


def test_a_whole_gpu_is_all_its_workers_own() -> None:
    assert fraction(EKS) is None
    assert requests(EKS)["cpu"] == "3400m"


def test_eight_gpus_of_a_node_can_each_have_a_worker() -> None:
    asked = requests({"class": "h200", "platform": "gke", "node": {"cpu": 40}})
    assert int(asked["cpu"].removesuffix("m")) * 8 <= 40_000 - 600


def test_mig_instances_share_their_node_but_keep_their_memory_apart() -> None:
    node = {"cpu": 32, "memory": 256, "gpus": 1}
    gpu = {"sharing": {"mode": "mig", "migProfile": "1g.10gb"}, "node": node}
    assert int(requests(gpu)["cpu"].removesuffix("m")) * 7 <= 32_000 - 600
    assert fraction(gpu) is None


def test_a_memory_fraction_of_ones_own() -> None:
    assert fraction({**SLICED, "sharing": {**SLICED["sharing"], "memoryFraction": 0.5}}) == 0.5


def test_requests_of_ones_own_stand_where_they_fit() -> None:
    asked = requests(SLICED, resources={"requests": {"cpu": "500m", "memory": "2Gi"}})
    assert (asked["cpu"], asked["memory"]) == ("500m", "2Gi")


def test_what_runs_beside_a_worker_is_counted_too() -> None:
    beside = {"requests": {"cpu": "100m", "memory": "256Mi"}}
    sidecar = {"name": "log", "image": "example.com/log:1", "resources": beside}
    asked = requests(SLICED, extraSidecars=[sidecar])
    assert (asked["cpu"], asked["memory"]) == ("750m", "2944Mi")


def test_workers_on_processors_know_it() -> None:
    spec = pod({"count": 0})
    assert environment(spec["containers"][0])["SFUMATO_DEVICE"] == "cpu"
    assert not [key for key in requests({"count": 0}) if key.startswith("nvidia.com")]
    assert environment(pod({})["containers"][0])["SFUMATO_DEVICE"] == "cuda"


# -- nodes on AWS ----------------------------------------------------------------------------------


def test_nodes_are_of_many_kinds_spot_and_on_demand() -> None:
    gpu = {"class": "l4", "alternatives": ["a10g", "l40s"], "platform": "eks"}
    pool = nodes(gpu).find("NodePool", "pictures-sfumato-l4-a10g-l40s-whole")
    values = {
        each["key"]: each["values"] for each in pool["spec"]["template"]["spec"]["requirements"]
    }
    assert values["karpenter.sh/capacity-type"] == ["spot", "on-demand"]
    assert values["karpenter.k8s.aws/instance-family"] == ["g6", "gr6", "g5", "g6e"]


def test_a_node_goes_when_it_is_empty_and_not_because_another_is_cheaper() -> None:
    disruption = nodes(EKS).find("NodePool", POOL)["spec"]["disruption"]
    assert disruption["consolidationPolicy"] == "WhenEmpty"
    assert disruption["consolidateAfter"] == "5m"
    assert disruption["budgets"][0]["nodes"] == "0"
    assert set(disruption["budgets"][0]["reasons"]) == {"Underutilized", "Drifted"}


def test_a_node_drains_for_longer_than_any_pod_needs() -> None:
    rendered = nodes(EKS)
    template = rendered.find("NodePool", POOL)["spec"]["template"]["spec"]
    grace = rendered.find("Deployment", "worker-r")["spec"]["template"]["spec"]
    drain = int(template["terminationGracePeriod"].removesuffix("s"))
    assert drain > grace["terminationGracePeriodSeconds"]
    assert template["expireAfter"] == "720h"


def test_there_is_an_end_to_what_nodes_cost() -> None:
    assert nodes(EKS).find("NodePool", POOL)["spec"]["limits"] == {"nvidia.com/gpu": "8"}


def test_nothing_but_workers_lands_on_gpu_nodes() -> None:
    (taint,) = nodes(EKS).find("NodePool", POOL)["spec"]["template"]["spec"]["taints"]
    assert (taint["key"], taint["effect"]) == ("nvidia.com/gpu", "NoSchedule")


def test_karpenter_is_told_how_many_slices_a_node_has() -> None:
    rendered = nodes(SLICED, gpuCounts=[1, 4])
    for count in (1, 4):
        overlay = rendered.find("NodeOverlay", f"{SLICED_POOL}-{count}")["spec"]
        assert overlay["capacity"] == {"nvidia.com/gpu.shared": str(4 * count)}
        values = {each["key"]: each["values"] for each in overlay["requirements"]}
        assert values == {
            "karpenter.sh/nodepool": [SLICED_POOL],
            "karpenter.k8s.aws/instance-gpu-count": [str(count)],
        }
    labels = rendered.find("NodePool", SLICED_POOL)["spec"]["template"]["metadata"]["labels"]
    assert labels["nvidia.com/device-plugin.config"] == "time-slicing-4"
    assert not nodes(EKS).all("NodeOverlay")


def test_nodes_pull_in_parallel_onto_striped_local_disks_and_slice_their_gpus() -> None:
    spec = nodes(SLICED).find("EC2NodeClass", SLICED_POOL)["spec"]
    assert spec["instanceStorePolicy"] == "RAID0"
    assert spec["metadataOptions"]["httpTokens"] == "required"
    assert spec["amiSelectorTerms"] == [{"alias": "bottlerocket@1.54.0"}]
    assert all(disk["ebs"]["encrypted"] for disk in spec["blockDeviceMappings"])
    settings = tomllib.loads(spec["userData"])["settings"]
    assert settings["container-runtime"]["snapshotter"] == "soci"
    soci = settings["container-runtime-plugins"]["soci-snapshotter"]
    assert soci["pull-mode"] == "parallel-pull-unpack"
    assert settings["kubelet-device-plugins"]["nvidia"] == {
        "device-sharing-strategy": "time-slicing",
        "time-slicing": {
            "replicas": 4,
            "rename-by-default": True,
            "fail-requests-greater-than-one": True,
        },
    }


@pytest.mark.parametrize(
    ("gpu", "watched"),
    [
        (EKS, "aws"),
        ({"class": "l4", "platform": "gke"}, "gcp"),
        ({**EKS, "capacity": "on-demand"}, None),
        ({**EKS, "spotNotices": False}, None),
        ({}, None),
    ],
    ids=["eks", "gke", "on demand", "switched off", "elsewhere"],
)
def test_workers_on_spot_machines_know_when_these_are_taken_back(
    gpu: dict[str, Any], watched: str | None
) -> None:
    rendered = render_runtime({"gpu": gpu})
    spec = rendered.find("Deployment", "worker-r")["spec"]["template"]["spec"]
    assert environment(spec["containers"][0]).get("SFUMATO_SPOT_NOTICES") == watched
    policies = [each["metadata"]["name"] for each in rendered.all("NetworkPolicy")]
    assert ("sfumato-worker-spot" in policies) == (watched is not None)


def test_pods_reach_a_machines_metadata_only_to_watch_for_its_end() -> None:
    for gpu, hops in ((EKS, 2), ({**EKS, "spotNotices": False}, 1)):
        options = nodes(gpu).find("EC2NodeClass", POOL)["spec"]["metadataOptions"]
        assert options["httpPutResponseHopLimit"] == hops


def test_runtimes_on_the_same_kind_of_node_share_its_pool() -> None:
    runtimes = [{"name": "a", "gpu": EKS}, {"name": "b", "gpu": EKS, "scaling": "job"}]
    rendered = render_runtime(others=merge(KARPENTER, {"runtimes": runtimes}))
    assert [each["metadata"]["name"] for each in rendered.all("NodePool")] == [POOL]
