"""Every way to scale, trigger, share GPUs and bring models, each with each other."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.chart import Manifest, containers, environment, pod_spec, render
from tests.support.chart_runtimes import matrix, refused_by_restricted
from tests.support.kubernetes_schemas import check

#: Objects that were found to be well: most sets of values make the same ones.
_checked: set[str] = set()


@pytest.fixture(params=list(matrix()))
def objects(request: pytest.FixtureRequest) -> list[Manifest]:
    return render(request.param)


def test_each_object_is_taken_whole(objects: list[Manifest]) -> None:
    for manifest in objects:
        text = json.dumps(manifest, sort_keys=True)
        if text not in _checked:
            check(manifest)
            _checked.add(text)


def test_pods_are_restricted_and_hold_no_token_that_they_do_not_use(
    objects: list[Manifest],
) -> None:
    for manifest in objects:
        spec = pod_spec(manifest)
        if spec is None:
            continue
        assert refused_by_restricted(spec) == [], manifest["metadata"]["name"]
        if manifest["metadata"]["labels"]["app.kubernetes.io/component"] in _OURS:
            assert spec["automountServiceAccountToken"] is False
            assert spec["securityContext"]["runAsUser"] == 65532
            for container in containers(spec):
                assert container["securityContext"]["readOnlyRootFilesystem"] is True


_OURS = {"worker", "server", "prefetch"}


def test_names_are_given_once(objects: list[Manifest]) -> None:
    names = [(each["apiVersion"], each["kind"], each["metadata"]["name"]) for each in objects]
    assert len(names) == len(set(names))


def test_workers_hold_neither_database_nor_bucket(objects: list[Manifest]) -> None:
    for manifest in objects:
        spec = pod_spec(manifest)
        component = manifest["metadata"]["labels"]["app.kubernetes.io/component"]
        if spec is None or component not in ("worker", "server"):
            continue
        variables: dict[str, Any] = {}
        for container in spec["containers"]:
            names = [each["name"] for each in container["env"]]
            assert len(names) == len(set(names))
            variables |= environment(container)
        assert not variables.keys() & {
            *("SFUMATO_DATABASE_URL", "SFUMATO_QUEUE_URL", "SFUMATO_IMAGES_URL"),
            *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        }
        assert "envFrom" not in spec["containers"][0]
        secrets = [
            each["secretKeyRef"]["key"]
            for each in variables.values()
            if isinstance(each, dict) and "secretKeyRef" in each
        ]
        assert secrets == ["worker-token" if component == "worker" else "api-key"]


def test_long_names_stay_apart_and_no_runtime_takes_the_apis() -> None:
    long = "a-name-of-just-about-as-many-characters-as-there-may-be"
    runtimes = [{"name": name} for name in (f"{long}-1", f"{long}-2", "api", "worker", "migrate")]
    rendered = render({"fullnameOverride": "f" * 40, "runtimes": runtimes})
    for kind in ("Deployment", "ScaledObject", "PodDisruptionBudget"):
        names = [each["metadata"]["name"] for each in rendered.all(kind)]
        assert len(names) == len(set(names)) >= len(runtimes)
        assert max(map(len, names)) <= 52
    for manifest in rendered:
        check(manifest)
