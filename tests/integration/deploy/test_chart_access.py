"""Who may do what in the cluster, and who may talk to whom."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.chart import Manifest, Rendered, render
from tests.support.chart_values import SETS

WORKERS = {"runtimes": [{"name": "a"}, {"name": "b", "scaling": "job"}]}


def allowed(role: Manifest) -> set[tuple[str, str]]:
    """(verb, resource) of a Role's rules; a resource's name behind it where the rule has one."""
    return {
        (verb, "/".join([resource, *([name] if name else [])]))
        for rule in role["rules"]
        for verb in rule["verbs"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
    }


# -- Roles ----------------------------------------------------------------------------------------


def test_no_role_is_a_blank_cheque() -> None:
    for role in render(SETS["everything outside"]).all("Role", "ClusterRole"):
        for rule in role["rules"]:
            assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]


def test_viewers_look_and_see_no_secret() -> None:
    viewer = allowed(render().find("Role", "viewer"))
    assert {verb for verb, _ in viewer} == {"get", "list", "watch"}
    seen = {resource for _, resource in viewer}
    assert {"pods", "pods/log", "events", "scaledobjects", "jobs"} <= seen
    # Neither read nor reached another way: through a shell in a pod, or a port of one.
    assert not seen & {"secrets", "pods/exec", "pods/attach", "pods/portforward"}


def test_operators_mend_and_read_one_secret() -> None:
    rendered = render()
    more = allowed(rendered.find("Role", "operator")) - allowed(rendered.find("Role", "viewer"))
    assert more == {
        ("get", "secrets/sfumato-credentials"),
        ("delete", "pods"),
        ("delete", "jobs"),
        ("patch", "deployments"),
        ("patch", "deployments/scale"),
        ("patch", "scaledobjects"),
        ("patch", "scaledjobs"),
    }


def test_people_are_bound_to_the_role_that_names_them() -> None:
    rendered = render(SETS["everything outside"])
    for role, name in (("operator", "artists"), ("viewer", "eve")):
        binding = rendered.find("RoleBinding", f"pictures-{role}")
        assert binding["roleRef"]["name"] == f"pictures-{role}"
        assert [subject["name"] for subject in binding["subjects"]] == [name]


def test_the_api_lists_pods_and_events_and_nothing_else() -> None:
    rendered = render()
    assert allowed(rendered.find("Role", "api")) == {("list", "pods"), ("list", "events")}
    binding = rendered.find("RoleBinding", "api")
    pod = rendered.find("Deployment", "api")["spec"]["template"]["spec"]
    assert [each["name"] for each in binding["subjects"]] == [pod["serviceAccountName"]]
    account = rendered.find("ServiceAccount", "api")
    assert account["automountServiceAccountToken"] is False
    blind = render({"api": {"readsCluster": False}})
    assert "Role/sfumato-api" not in blind.names()


# -- Network --------------------------------------------------------------------------------------


def policies(rendered: Rendered, component: str) -> list[Manifest]:
    """Those that choose the pods of a component."""
    found = []
    for policy in rendered.all("NetworkPolicy"):
        chosen = policy["spec"]["podSelector"].get("matchLabels", {})
        if chosen.get("app.kubernetes.io/component", component) == component:
            found.append(policy["spec"])
    return found


def ports(rendered: Rendered, component: str, way: str) -> set[int]:
    return {
        port["port"]
        for spec in policies(rendered, component)
        for rule in spec.get(way, [])
        for port in rule["ports"]
    }


def test_every_pod_is_chosen_by_the_policy_that_denies() -> None:
    for values in SETS.values():
        rendered = render(values)
        denying = [
            each["spec"]
            for each in rendered.all("NetworkPolicy")
            if each["metadata"]["name"].endswith("-default-deny")
        ]
        if not values.get("networkPolicy", {}).get("enabled", True):
            assert not rendered.all("NetworkPolicy")
            continue
        (deny,) = denying
        assert deny["policyTypes"] == ["Ingress", "Egress"]
        assert "ingress" not in deny
        for each in rendered.all("Deployment", "StatefulSet", "DaemonSet", "Job"):
            labels = each["spec"]["template"]["metadata"]["labels"]
            assert deny["podSelector"]["matchLabels"].items() <= labels.items()


def test_everybody_asks_for_names_and_that_in_the_cluster_alone() -> None:
    (deny,) = [
        each
        for each in render().all("NetworkPolicy")
        if each["metadata"]["name"] == "sfumato-default-deny"
    ]
    (rule,) = deny["spec"]["egress"]
    assert {port["port"] for port in rule["ports"]} == {53}
    assert rule["to"]


def test_workers_reach_neither_database_nor_broker_nor_each_other() -> None:
    rendered = render({**SETS["trial"], **WORKERS})
    assert ports(rendered, "worker", "egress") == {53, 443, 6443, 8080, 8333}
    assert ports(rendered, "worker", "ingress") == {9090}
    for server, port in (("postgresql", 5432), ("rabbitmq", 5672)):
        callers = {
            peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
            for spec in policies(rendered, server)
            for rule in spec.get("ingress", [])
            for peer in rule["from"]
            if "podSelector" in peer
        }
        assert callers == {"api"}, (server, port)


def test_workers_hold_no_key_of_a_bucket_a_database_or_a_broker() -> None:
    rendered = render({**SETS["trial"], **WORKERS})
    theirs = [
        each["spec"]["template"]["spec"]
        for each in rendered.all("Deployment")
        if "-worker-" in each["metadata"]["name"]
    ] + [each["spec"]["jobTargetRef"]["template"]["spec"] for each in rendered.all("ScaledJob")]
    assert len(theirs) == 2
    for spec in theirs:
        (container,) = spec["containers"]
        assert "envFrom" not in container
        secrets = {
            (source["secretKeyRef"]["name"], source["secretKeyRef"]["key"])
            for source in (each.get("valueFrom", {}) for each in container["env"])
            if "secretKeyRef" in source
        }
        assert secrets == {("sfumato-credentials", "worker-token")}


@pytest.mark.parametrize("component", ["api", "worker"])
def test_nobody_asks_a_node_for_its_credentials(component: str) -> None:
    blocks = [
        peer["ipBlock"]
        for spec in policies(render(), component)
        for rule in spec["egress"]
        for peer in rule["to"]
        if "ipBlock" in peer and {port["port"] for port in rule["ports"]} != {53}
    ]
    assert blocks
    for block in blocks:
        link_local = {"0.0.0.0/0": "169.254.0.0/16", "::/0": "fe80::/10"}[block["cidr"]]
        assert link_local in block["except"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, set()),
        ({"storage": {"s3Endpoint": "https://minio.example.com:9000"}}, {9000}),
        ({"storage": {"s3Endpoint": "http://minio.example.com"}}, {80}),
        ({"storage": {"s3Endpoint": "https://minio.example.com"}}, set()),
        ({"telemetry": {"traces": "otlp", "otlpEndpoint": "http://collector:4318"}}, {4318}),
        ({"telemetry": {"traces": "none", "otlpEndpoint": "http://collector:4318"}}, set()),
    ],
)
def test_the_ports_that_values_name_are_open(values: dict[str, Any], expected: set[int]) -> None:
    usual = {53, 443, 6443, 8080}
    assert ports(render(values), "worker", "egress") == usual | expected
    assert ports(render(values), "api", "egress") >= expected


def test_callers_can_be_narrowed_without_shutting_out_workers_or_keda() -> None:
    ingress = {"namespaceSelector": {"matchLabels": {"name": "ingress"}}}
    rendered = render({"networkPolicy": {"callers": [ingress]}})
    (rule,) = [
        rule
        for spec in policies(rendered, "api")
        for rule in spec.get("ingress", [])
        if rule["ports"][0]["port"] == 8080
    ]
    assert rule["from"][0] == ingress
    assert {
        peer.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/component")
        for peer in rule["from"]
    } == {None, "worker"}
    assert {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}}} in rule[
        "from"
    ]


def test_keda_alone_asks_the_scaler() -> None:
    pushing = {"runtimes": [{"name": "a", "trigger": {"type": "external-push"}}]}
    (rule,) = [
        rule
        for spec in policies(render(pushing), "api")
        for rule in spec.get("ingress", [])
        if rule["ports"][0]["port"] == 9091
    ]
    assert rule["from"] == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}}}
    ]
    assert 9091 not in ports(render(), "api", "ingress")
