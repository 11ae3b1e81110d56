"""What holds for every pod of the chart, whatever the values: restricted, bounded, without a token."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.chart import Manifest, Rendered, containers, pod_spec, render
from tests.support.chart_values import SETS


@pytest.fixture(params=SETS.values(), ids=SETS.keys())
def rendered(request: pytest.FixtureRequest) -> Rendered:
    return render(request.param)


def pods(rendered: Rendered) -> list[tuple[str, Manifest]]:
    found = [(f"{each['kind']}/{each['metadata']['name']}", pod_spec(each)) for each in rendered]
    return [(name, spec) for name, spec in found if spec is not None]


def test_pods_are_restricted_as_the_pod_security_standard_says(rendered: Rendered) -> None:
    for name, spec in pods(rendered):
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), name
        volumes = {kind for volume in spec.get("volumes", []) for kind in volume.keys() - {"name"}}
        allowed = {
            *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image"),
            *("persistentVolumeClaim", "projected", "secret"),
        }
        assert volumes <= allowed, name
        for container in containers(spec):
            assert effective(spec, container) == {
                "runAsNonRoot": True,
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
                "readOnlyRootFilesystem": True,
            }, name
            assert not any("hostPort" in port for port in container.get("ports", [])), name


def effective(spec: Manifest, container: Manifest) -> dict[str, Any]:
    """What of a container's security is in force, so far as it is judged here."""
    both = {**spec.get("securityContext", {}), **container.get("securityContext", {})}
    assert both.get("runAsUser", 65532) > 0
    judged = (
        *("runAsNonRoot", "allowPrivilegeEscalation", "capabilities", "seccompProfile"),
        *("readOnlyRootFilesystem", "privileged"),
    )
    return {key: both[key] for key in judged if key in both}


def test_containers_ask_for_what_they_need_and_no_memory_leak_takes_the_node(
    rendered: Rendered,
) -> None:
    for name, spec in pods(rendered):
        for container in spec["containers"]:
            resources = container["resources"]
            assert {"cpu", "memory", "ephemeral-storage"} <= resources["requests"].keys(), name
            assert "memory" in resources["limits"], name


def test_no_pod_holds_a_token_of_kubernetes_unless_it_calls_it(rendered: Rendered) -> None:
    for name, spec in pods(rendered):
        reads = name.endswith("-api") and spec.get("serviceAccountName") != "default"
        assert spec["automountServiceAccountToken"] is reads, name
        assert spec["enableServiceLinks"] is False, name


def test_what_can_be_written_has_a_bound(rendered: Rendered) -> None:
    for name, spec in pods(rendered):
        for volume in spec.get("volumes", []):
            if "emptyDir" in volume:
                assert volume["emptyDir"]["sizeLimit"], name


def test_secrets_stand_in_secrets_alone(rendered: Rendered) -> None:
    secret_words = ("PASSWORD", "TOKEN", "SECRET", "_KEY", "DATABASE_URL", "QUEUE_URL")
    for name, spec in pods(rendered):
        for container in containers(spec):
            for variable in container.get("env", []):
                named = variable["name"].removesuffix("_FILE")
                if named == variable["name"] and named.endswith(secret_words):
                    assert "secretKeyRef" in variable["valueFrom"], (name, variable["name"])


def test_every_object_says_whose_it_is(rendered: Rendered) -> None:
    for manifest in rendered:
        labels = manifest["metadata"]["labels"]
        assert {
            f"app.kubernetes.io/{key}"
            for key in ("name", "instance", "component", "part-of", "version", "managed-by")
        } <= labels.keys(), manifest["metadata"]["name"]


def test_images_are_taken_by_digest_where_one_is_given() -> None:
    rendered = render(SETS["everything outside"])
    images = {container["image"] for _, spec in pods(rendered) for container in containers(spec)}
    digest = "sha256:" + "ab" * 32
    assert images == {f"ghcr.io/sfumato/sfumato-{part}@{digest}" for part in ("api", "worker")}
