"""The chart's Roles grant each process what the code asks for (see the replay in
``tests/integration/kubernetes/test_permissions.py``), and nothing else."""

from __future__ import annotations

import pytest

from sfumato.adapters.kubernetes.permissions import SERVICE, WORKER, Permission
from tests.support.chart import Manifest, Rendered, pod_spec, render

RUNTIMES = {"runtimes": [{"name": "fast", "scaling": "deployment"}]}


def granted(objects: Rendered, account: str) -> set[Permission]:
    """What a service account may do, by all Roles that are bound to it."""
    names = {
        (binding["roleRef"]["kind"], binding["roleRef"]["name"])
        for binding in objects.all("RoleBinding", "ClusterRoleBinding")
        if ("ServiceAccount", account) in {(who["kind"], who["name"]) for who in subjects(binding)}
    }
    assert {kind for kind, _ in names} <= {"Role"}, "rights beyond the namespace"
    rules = [rule for _, name in names for rule in objects.find("Role", name)["rules"]]
    assert all(rule["apiGroups"] == [""] for rule in rules), rules
    return {
        Permission(verb, resource)
        for rule in rules
        for verb in rule["verbs"]
        for resource in rule["resources"]
    }


def subjects(binding: Manifest) -> list[Manifest]:
    found: list[Manifest] = binding["subjects"]
    return found


def account_of(objects: Rendered, deployment: str) -> str:
    spec = pod_spec(objects.find("Deployment", deployment))
    assert spec is not None
    sources = [
        source
        for volume in spec.get("volumes", ())
        for source in volume.get("projected", {}).get("sources", ())
    ]
    mounted = any("serviceAccountToken" in source for source in sources)
    assert spec["automountServiceAccountToken"] or mounted, f"{deployment} gets no token"
    name: str = spec["serviceAccountName"]
    return name


@pytest.mark.parametrize(
    ("deployment", "needed"), [("api", SERVICE), ("worker-fast", WORKER)], ids=["api", "worker"]
)
def test_a_role_grants_what_is_called_and_no_more(
    deployment: str, needed: frozenset[Permission]
) -> None:
    objects = render(RUNTIMES)
    assert granted(objects, account_of(objects, deployment)) == needed
