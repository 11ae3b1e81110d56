"""Each cluster's overlay: rendered with and without the trial's servers, and taken whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

from tests.support.chart import CHART, LEAST, Rendered, environment, merge, pod_spec, render
from tests.support.kubernetes_schemas import check

OVERLAYS = Path(__file__).parents[3] / "deploy" / "overlays"
CLUSTERS = sorted(each.name for each in OVERLAYS.iterdir() if each.name != "trial")
LOCAL = ("k3d", "kind")


def values(name: str) -> dict[str, Any]:
    return yaml.safe_load((OVERLAYS / name / "values.yaml").read_text())


def worker(rendered: Rendered) -> dict[str, Any]:
    """The spec of the pods of the one runtime."""
    spec = pod_spec(rendered.find("Deployment", "worker-default"))
    assert spec is not None
    return spec


def tried(name: str) -> Rendered:
    """What `make deploy OVERLAY=name` installs."""
    # No server of one's own, which the least values have.
    nothing = {"database": {"existingSecret": {"name": ""}}, "storage": {"imagesUrl": ""}}
    return render(merge(nothing, merge(values(name), values("trial"))))


def test_there_is_one_for_each_kind_of_cluster() -> None:
    assert CLUSTERS == ["bare-metal", "coreweave", "eks", "gke", "k3d", "kind"]


@pytest.mark.parametrize("name", CLUSTERS)
@pytest.mark.parametrize("with_servers", [True, False], ids=["trial", "own servers"])
def test_each_object_is_taken_whole(name: str, with_servers: bool) -> None:
    rendered = tried(name) if with_servers else render(values(name))
    kinds = {each["kind"] for each in rendered}
    assert kinds >= {"Deployment", "ScaledObject", "Service", "NetworkPolicy"}
    assert ("StatefulSet" in kinds) == with_servers
    for manifest in rendered:
        check(manifest)


@pytest.mark.parametrize("name", CLUSTERS)
def test_helm_finds_nothing_to_complain_of(name: str) -> None:
    report = helm_python.lint(CHART, merge(LEAST, values(name)), strict=True)
    assert [each for each in report["messages"] if each["severity"] > 1] == []


@pytest.mark.parametrize("name", CLUSTERS)
def test_workers_come_from_zero(name: str) -> None:
    spec = tried(name).find("ScaledObject", "worker-default")["spec"]
    assert spec["minReplicaCount"] == 0
    assert spec["maxReplicaCount"] >= 1


@pytest.mark.parametrize("name", CLUSTERS)
def test_the_local_ones_draw_on_processors_and_the_others_on_whole_gpus(name: str) -> None:
    (container,) = worker(tried(name))["containers"]
    device = "cpu" if name in LOCAL else "cuda"
    assert environment(container)["SFUMATO_DEVICE"] == device
    asked = container["resources"]["limits"].get("nvidia.com/gpu")
    assert asked == (None if name in LOCAL else "1")


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("gke", {"cloud.google.com/gke-accelerator": "nvidia-l4"}),
        ("coreweave", {"gpu.nvidia.com/class": "L40S"}),
    ],
)
def test_workers_land_on_that_cloud_s_gpus(name: str, label: dict[str, str]) -> None:
    assert worker(tried(name))["nodeSelector"].items() >= label.items()


def test_on_eks_karpenter_makes_their_nodes() -> None:
    rendered = tried("eks")
    assert {"NodePool", "EC2NodeClass"} <= {each["kind"] for each in rendered}
    affinity = worker(rendered)["affinity"]["nodeAffinity"]
    (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchExpressions"][0]["values"] == ["l4", "a10g"]


@pytest.mark.parametrize("name", LOCAL)
def test_the_local_ones_fit_a_laptop_and_answer_at_their_ingress(name: str) -> None:
    rendered = tried(name)
    (ingress,) = rendered.all("Ingress")
    assert ingress["spec"]["ingressClassName"] == "traefik"
    assert "host" not in ingress["spec"]["rules"][0], "it is reached by its address"
    assert rendered.find("Deployment", "api")["spec"]["replicas"] == 1
    assert not rendered.all("HorizontalPodAutoscaler"), "kind counts no CPU"
    assert total_memory(rendered) < 4 << 30


@pytest.mark.parametrize("name", sorted(set(CLUSTERS) - set(LOCAL)))
def test_the_others_open_nothing_to_the_outside_by_themselves(name: str) -> None:
    rendered = tried(name)
    assert not rendered.all("Ingress", "HTTPRoute")
    assert {each["spec"].get("type", "ClusterIP") for each in rendered.all("Service")} == {
        "ClusterIP"
    }


@pytest.mark.parametrize(
    ("name", "address"), [("gke", "169.254.169.252/32"), ("eks", "169.254.170.23/32")]
)
def test_the_api_reaches_its_cloud_s_workload_identity(name: str, address: str) -> None:
    policy = tried(name).find("NetworkPolicy", "api")
    reached = [
        peer["ipBlock"]["cidr"]
        for rule in policy["spec"]["egress"]
        for peer in rule["to"]
        if "ipBlock" in peer
    ]
    assert address in reached
    workers = yaml.safe_dump(tried(name).find("NetworkPolicy", "worker"))
    assert address not in workers, "a worker needs nobody's identity"


def total_memory(rendered: Rendered) -> int:
    """Bytes that all pods ask for together, one of each."""
    units = {"Mi": 1 << 20, "Gi": 1 << 30}
    return sum(
        int(asked[:-2]) * units[asked[-2:]]
        for manifest in rendered.all("Deployment", "StatefulSet")
        for container in (pod_spec(manifest) or {})["containers"]
        for asked in [container["resources"]["requests"]["memory"]]
    )
