"""Helm itself installs, upgrades and removes the chart, in a cluster that keeps what it is sent."""

from __future__ import annotations

from collections.abc import Iterator

import helm_python
import pytest

from tests.support.chart import CHART, LEAST, NAMESPACE, RELEASE, merge
from tests.support.chart_values import SETS
from tests.support.kubernetes_server import Cluster, serving

#: Seconds; only a defect reaches it.
_PATIENCE = 100


class Helm:
    """The release of the tests, in a cluster of its own."""

    def __init__(self, config: helm_python.Config, cluster: Cluster) -> None:
        self._config = config
        self.cluster = cluster

    def install(self, values: dict[str, object]) -> None:
        self._config.install(
            CHART, RELEASE, merge(LEAST, values), namespace=NAMESPACE, timeout=_PATIENCE
        )

    def upgrade(self, values: dict[str, object]) -> None:
        self._config.upgrade(
            CHART, RELEASE, merge(LEAST, values), namespace=NAMESPACE, timeout=_PATIENCE
        )

    def uninstall(self) -> None:
        self._config.uninstall(RELEASE, timeout=_PATIENCE)


@pytest.fixture
def helm() -> Iterator[Helm]:
    with (
        serving() as (cluster, kubeconfig),
        helm_python.Config(
            kubeconfig_content=kubeconfig,
            namespace=NAMESPACE,
            storage_driver="memory",
            qps=1000,
            burst_limit=1000,
        ) as config,
    ):
        yield Helm(config, cluster)


def test_secrets_are_made_once_and_kept(helm: Helm) -> None:
    helm.install(SETS["trial"])
    first = helm.cluster.secrets()
    assert set(first) == {
        f"sfumato-{name}" for name in ("credentials", "postgresql", "rabbitmq", "seaweedfs")
    }
    helm.upgrade(merge(SETS["trial"], {"commonLabels": {"team": "art"}}))
    assert helm.cluster.of("Secret")["sfumato-credentials"]["metadata"]["labels"]["team"] == "art"
    assert helm.cluster.secrets() == first


def test_a_secret_that_somebody_changed_stays_changed(helm: Helm) -> None:
    helm.install({})
    changed = {**helm.cluster.secrets()["sfumato-credentials"], "api-key": "c2ZrX21pbmU="}
    helm.cluster.of("Secret")["sfumato-credentials"]["data"] = changed
    helm.upgrade({})
    assert helm.cluster.secrets()["sfumato-credentials"] == changed


def test_what_opens_the_servers_volumes_is_there_for_the_next_release(helm: Helm) -> None:
    helm.install(SETS["trial"])
    first = helm.cluster.secrets()
    helm.uninstall()
    kept = {f"sfumato-{name}" for name in ("postgresql", "rabbitmq", "seaweedfs")}
    assert set(helm.cluster.secrets()) == kept
    assert {each["kind"] for each in helm.cluster.objects.values()} == {"Secret"}
    helm.install(SETS["trial"])
    assert {name: helm.cluster.secrets()[name] for name in kept} == {
        name: first[name] for name in kept
    }


def test_the_schema_is_migrated_before_anything_else_is_there(helm: Helm) -> None:
    helm.install({})
    assert helm.cluster.made[0] == "Job/sfumato-migrate"
    assert "Deployment/sfumato-api" in helm.cluster.made
    assert not helm.cluster.of("Job"), "it goes once it has done its work"
    helm.cluster.made.clear()
    helm.upgrade({})
    assert helm.cluster.made == ["Job/sfumato-migrate"]
