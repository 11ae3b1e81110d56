"""The chart's own arguments, variables and secrets, given to real processes beside real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from scripts.servers.process import free_ports
from tests.support.chart import Manifest, Rendered, environment, pod_spec, render
from tests.support.chart_values import SETS
from tests.support.servers import S3
from tests.support.service import ServiceProcess
from tests.support.worker import WorkerProcess

VALUES = {
    **SETS["trial"],
    "runtimes": [
        {"name": "fast", "gpu": {"count": 0}},
        {"name": "batch", "scaling": "job", "gpu": {"count": 0}},
    ],
}
#: What a cluster alone can tell.
_ELSEWHERE = {"SFUMATO_CLUSTER_NAMESPACE", "SFUMATO_POD_NAME", "SFUMATO_POD_NAMESPACE"}


@pytest.fixture(scope="module")
def rendered() -> Rendered:
    return render(VALUES)


def variables(rendered: Rendered, container: Manifest) -> dict[str, str]:
    """A container's variables as the kubelet would read them."""

    def read(source: Any) -> str:
        if isinstance(source, str):
            return source
        reference = source["secretKeyRef"]
        return str(rendered.find("Secret", reference["name"])["stringData"][reference["key"]])

    given = environment(container)
    return {name: read(given[name]) for name in given.keys() - _ELSEWHERE}


def settings_of(variables: dict[str, str], **other: Any) -> dict[str, Any]:
    given = {
        name.removeprefix("SFUMATO_").lower(): value
        for name, value in variables.items()
        if name.startswith("SFUMATO_")
    }
    return {**given, "internal_port": free_ports(["internal"])["internal"], **other}


def only_container(spec: Manifest | None) -> Manifest:
    assert spec is not None
    (container,) = spec["containers"]
    return dict(container)


@pytest.fixture
def service(  # noqa: PLR0917 - fixtures
    rendered: Rendered,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fresh_postgres_url: str,
    rabbitmq_url: str,
    s3_server: S3,
    s3_bucket: str,
) -> Iterator[ServiceProcess]:
    given = variables(rendered, only_container(pod_spec(rendered.find("Deployment", "api"))))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        assert given[name]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    monkeypatch.setenv("AWS_REGION", given["AWS_REGION"])
    settings = settings_of(
        given,
        database_url=fresh_postgres_url,
        queue_url=rabbitmq_url,
        images_url=f"s3://{s3_bucket}",
        s3_endpoint=s3_server.endpoint,
    )
    data = Path(settings.pop("data"))
    assert data.is_absolute()
    with ServiceProcess(tmp_path / "api", settings, ("--host=0.0.0.0",)) as service:
        key = rendered.find("Secret", "credentials")["stringData"]["api-key"]
        service.http.headers["Authorization"] = f"Bearer {key}"
        yield service


def hire(
    service: ServiceProcess, rendered: Rendered, spec: Manifest, folder: Path
) -> WorkerProcess:
    container = only_container(spec)
    settings = settings_of(variables(rendered, container), device="fake", model_cache=folder / "c")
    settings.pop("data")
    command, *arguments = container["args"]
    assert command == "worker"
    assert arguments[arguments.index("--connect") + 1] == "http://sfumato-api.pictures.svc:8080"
    arguments[arguments.index("--connect") + 1] = service.url
    return WorkerProcess(folder, *arguments, settings=settings)


def asked_by_keda(service: ServiceProcess, rendered: Rendered, runtime: str) -> float:
    """What the trigger of a runtime reads, with the key that it shows."""
    kind = "ScaledObject" if runtime == "fast" else "ScaledJob"
    (trigger,) = rendered.find(kind, f"worker-{runtime}")["spec"]["triggers"]
    name = trigger["authenticationRef"]["name"]
    (target,) = rendered.find("TriggerAuthentication", name)["spec"]["secretTargetRef"]
    shown = rendered.find("Secret", target["name"])["stringData"][target["key"]]
    assert (trigger["metadata"]["authMode"], target["parameter"]) == ("bearer", "token")
    path = urlsplit(trigger["metadata"]["url"]).path
    headers = {"Authorization": f"Bearer {shown}"}
    answer = httpx.get(service.url + path, headers=headers).raise_for_status().json()
    return float(answer[trigger["metadata"]["valueLocation"]])


def test_a_picture_is_drawn_by_what_the_chart_starts(
    service: ServiceProcess, rendered: Rendered, tmp_path: Path
) -> None:
    job = service.submit(runtime="fast")
    assert asked_by_keda(service, rendered, "fast") == 1
    deployment = rendered.find("Deployment", "worker-fast")["spec"]["template"]["spec"]
    with hire(service, rendered, deployment, tmp_path / "worker"):
        finished = service.finished(job["id"])
    assert finished["status"] == "succeeded"
    picture = service.http.get(f"/v1/jobs/{job['id']}/images/0")
    assert picture.content.startswith(b"\x89PNG")
    assert asked_by_keda(service, rendered, "fast") == 0
    log = "\n".join(service.log)
    secrets = [each["stringData"] for each in rendered.all("Secret")]
    assert not [value for secret in secrets for value in secret.values() if value in log]


def test_a_job_of_kubernetes_draws_one_picture_and_ends(
    service: ServiceProcess, rendered: Rendered, tmp_path: Path
) -> None:
    job = service.submit(runtime="batch")
    assert asked_by_keda(service, rendered, "batch") == 1
    spec = rendered.find("ScaledJob", "worker-batch")["spec"]["jobTargetRef"]["template"]["spec"]
    with hire(service, rendered, spec, tmp_path / "worker") as worker:
        assert worker.process.wait(60) == 0
    assert service.finished(job["id"])["status"] == "succeeded"
