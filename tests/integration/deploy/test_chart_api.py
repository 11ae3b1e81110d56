"""The API's Deployment and what stands around it: how it starts, scales, ends and is reached."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import helm_python
import pytest

from sfumato.settings import Settings
from tests.support.chart import (
    CHART,
    Manifest,
    Rendered,
    by_name,
    environment,
    notes,
    pod_spec,
    render,
)
from tests.support.chart_values import SETS


def api_of(rendered: Rendered) -> tuple[Manifest, Manifest]:
    """The API's pod and its one container."""
    (name,) = (n for n in rendered.names() if re.fullmatch("Deployment/.*-api", n))
    spec = pod_spec(rendered.find("Deployment", name.partition("/")[2]))
    assert spec is not None
    (container,) = spec["containers"]
    return spec, container


# -- Starting and ending --------------------------------------------------------------------------


def test_probes_ask_for_life_and_for_readiness_apart() -> None:
    _, container = api_of(render())
    paths = {
        probe: container[probe]["httpGet"]["path"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    # A database that is away makes a pod unready; a restart would not bring it back.
    assert paths == {
        "startupProbe": "/healthz",
        "readinessProbe": "/readyz",
        "livenessProbe": "/healthz",
    }


def test_a_start_may_wait_for_its_servers_for_longer_than_its_probe_does_not() -> None:
    _, container = api_of(render(SETS["trial"]))
    probe = container["startupProbe"]
    waits = float(environment(container)["SFUMATO_START_TIMEOUT"])
    assert waits < probe["periodSeconds"] * probe["failureThreshold"]


def test_a_pod_stops_once_no_proxy_sends_to_it_any_more() -> None:
    spec, container = api_of(render())
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert 5 <= pause < spec["terminationGracePeriodSeconds"] - 10


def test_a_roll_out_never_has_fewer_pods_than_before() -> None:
    deployment = render().find("Deployment", "api")
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    budget = render().find("PodDisruptionBudget", "api")
    assert budget["spec"]["maxUnavailable"] == 1
    assert budget["spec"]["selector"] == deployment["spec"]["selector"]


def test_there_are_two_replicas_and_more_when_the_processors_are_busy() -> None:
    rendered = render()
    assert "replicas" not in rendered.find("Deployment", "api")["spec"]
    scaler = rendered.find("HorizontalPodAutoscaler", "api")["spec"]
    assert scaler["scaleTargetRef"]["name"] == "sfumato-api"
    assert scaler["minReplicas"] == 2
    assert scaler["metrics"][0]["resource"]["name"] == "cpu"
    fixed = render({"api": {"autoscaling": {"enabled": False}}})
    assert fixed.find("Deployment", "api")["spec"]["replicas"] == 2
    assert not [n for n in fixed.names() if n == "HorizontalPodAutoscaler/sfumato-api"]


def test_replicas_are_spread_where_they_can_be() -> None:
    spec, _ = api_of(render())
    constraints = spec["topologySpreadConstraints"]
    assert {each["topologyKey"] for each in constraints} == {
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    }
    assert {each["whenUnsatisfiable"] for each in constraints} == {"ScheduleAnyway"}


# -- Settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", SETS.values(), ids=SETS.keys())
def test_the_service_knows_every_setting_and_takes_its_value(values: dict[str, Any]) -> None:
    _, container = api_of(render(values))
    given = {
        name.removeprefix("SFUMATO_").lower(): value
        for name, value in environment(container).items()
        if name.startswith("SFUMATO_")
    }
    assert given.keys() <= Settings.model_fields.keys()
    plain = {
        name: json.loads(value) if value.startswith("[") else value
        for name, value in given.items()
        if isinstance(value, str)
    }
    settings = Settings.load(**plain)
    assert settings.max_workers == 0, "workers are pods of their own"
    assert all(not runtime.max_workers for runtime in settings.runtimes)


def test_a_setting_of_ones_own_is_added_and_one_of_the_charts_refused() -> None:
    _, container = api_of(render({"api": {"env": {"SFUMATO_RETENTION_DAYS": "30"}}}))
    assert environment(container)["SFUMATO_RETENTION_DAYS"] == "30"
    with pytest.raises(helm_python.HelmRenderError, match=r"api\.env\.SFUMATO_IMAGES_URL"):
        render({"api": {"env": {"SFUMATO_IMAGES_URL": "s3://elsewhere"}}})


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ({"database": {"existingSecret": {"name": ""}}}, r"database\.existingSecret\.name"),
        ({"storage": {"imagesUrl": ""}}, r"storage\.imagesUrl"),
        ({"gateway": {"enabled": True}}, r"gateway\.parentRefs"),
        ({"api": {"autoscaling": {"maxReplicas": 1}}}, r"maxReplicas is 1.*minReplicas.* is 2"),
        ({"api": {"serviceAccount": {"create": False}}}, r"api\.serviceAccount\.name"),
    ],
)
def test_what_is_missing_or_cannot_be_is_told_by_name(values: dict[str, Any], hint: str) -> None:
    with pytest.raises(helm_python.HelmRenderError, match=hint):
        render(values)


# -- Migration ------------------------------------------------------------------------------------


def test_the_schema_is_migrated_before_new_pods_where_the_database_is_there_already() -> None:
    job = render().find("Job", "migrate")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    spec = pod_spec(job)
    assert spec is not None
    assert spec["restartPolicy"] == "Never"
    assert spec["containers"][0]["args"] == ["database", "migrate"]
    # It runs before any object of the release: it may need none of them.
    assert "serviceAccountName" not in spec
    sources = environment(spec["containers"][0]).values()
    assert [source for source in sources if isinstance(source, dict)] == [
        {"secretKeyRef": {"name": "sfumato-database", "key": "url"}}
    ]


def test_no_hook_waits_for_a_database_that_comes_with_the_release() -> None:
    rendered = render(SETS["trial"])
    assert not [
        each for each in rendered if "helm.sh/hook" in each["metadata"].get("annotations", {})
    ]


# -- Being reached --------------------------------------------------------------------------------


def test_ports_of_services_are_ports_of_containers() -> None:
    _, container = api_of(render())
    for service in ("api", "api-internal"):
        for port in render().find("Service", service)["spec"]["ports"]:
            by_name(container["ports"], port["targetPort"])


def test_the_world_sees_neither_metrics_nor_the_scaler() -> None:
    pushing = {"runtimes": [{"name": "a", "trigger": {"type": "external-push"}}]}
    rendered = render({**SETS["everything outside"], "fullnameOverride": "", **pushing})
    assert {port["port"] for port in rendered.find("Service", "api")["spec"]["ports"]} == {8080}
    backend = rendered.find("Ingress", "sfumato")["spec"]["rules"][0]["http"]["paths"][0]
    assert backend["backend"]["service"]["name"] == "sfumato-api"
    (rule,) = rendered.find("HTTPRoute", "sfumato")["spec"]["rules"]
    assert [each["name"] for each in rule["backendRefs"]] == ["sfumato-api"]
    internal = rendered.find("Service", "api-internal")["spec"]
    assert {port["port"] for port in internal["ports"]} == {9090, 9091}
    assert "type" not in internal


def test_the_ingress_has_tls_where_there_is_a_secret_for_it() -> None:
    rendered = render(SETS["everything outside"])
    assert rendered.find("Ingress", "pictures")["spec"]["tls"] == [
        {"secretName": "pictures-tls", "hosts": ["pictures.example.com"]}
    ]


# -- Being watched --------------------------------------------------------------------------------


def test_prometheus_finds_services_and_workers() -> None:
    rendered = render(SETS["everything outside"])
    service = rendered.find("ServiceMonitor", "pictures-api")["spec"]
    labels = rendered.find("Service", "pictures-api-internal")["metadata"]["labels"]
    assert service["selector"]["matchLabels"].items() <= labels.items()
    pods = rendered.find("PodMonitor", "pictures-worker")["spec"]
    worker = next(
        each for each in rendered.all("Deployment") if "-worker-" in each["metadata"]["name"]
    )
    template = worker["spec"]["template"]
    assert pods["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    by_name(template["spec"]["containers"][0]["ports"], pods["podMetricsEndpoints"][0]["port"])


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    config = render(SETS["everything outside"]).find("ConfigMap", "pictures-dashboard")
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    dashboard = json.loads(config["data"]["sfumato.json"])
    asked = {
        re.sub("_(total|bucket|sum|count)$", "", name)
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
        for name in re.findall(r"\b(sfumato_\w+)\b", target["expr"])
    }
    source = Path(__file__).parents[3] / "src" / "sfumato"
    told = {
        name
        for folder in (source / "adapters" / "telemetry", source / "bootstrap")
        for file in folder.glob("*.py")
        for name in re.findall(r'"(sfumato_\w+)"', file.read_text())
    }
    assert asked
    assert asked <= told, asked - told
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_the_notes_tell_how_to_make_a_first_picture() -> None:
    text = notes()
    assert "get secret sfumato-credentials -o jsonpath='{.data.api-key}'" in text
    assert "/generate" in text
    assert "From outside: https://pictures.example.com" in notes(SETS["everything outside"])
    assert "nothing will draw" in notes({"runtimes": []})


def test_the_chart_has_the_version_of_the_service() -> None:
    source = (CHART.parents[2] / "src" / "sfumato" / "__init__.py").read_text()
    version = re.search(r'__version__ = "(.+)"', source)
    chart = helm_python.Chart.load(CHART).metadata
    assert version is not None
    assert (chart["version"], chart["appVersion"]) == (version[1], version[1])
