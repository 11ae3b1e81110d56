"""The bundled servers, and the secrets that the chart makes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

import pytest

from scripts.servers.process import http_status
from sfumato.adapters.objects import ObjectImageStore
from sfumato.core.errors import StartupRefused
from sfumato.services.access import KEY_PREFIX, check_secret
from sfumato.services.worker_access import TOKEN_PREFIX
from tests.support.chart import Manifest, environment, render
from tests.support.chart_values import SETS
from tests.support.servers import PrivateS3, private

SERVERS = ("postgresql", "rabbitmq", "seaweedfs")


def secret(name: str) -> dict[str, str]:
    data: dict[str, str] = render(SETS["trial"]).find("Secret", name)["stringData"]
    return data


def server(name: str) -> Manifest:
    return render(SETS["trial"]).find("StatefulSet", name)


def test_nothing_is_bundled_unless_asked_for() -> None:
    assert not [each for each in render().names() if each.startswith("StatefulSet")]


@pytest.mark.parametrize("name", SERVERS)
def test_a_servers_data_and_secret_outlive_its_pod_and_the_release(name: str) -> None:
    (claim,) = server(name)["spec"]["volumeClaimTemplates"]
    (container,) = server(name)["spec"]["template"]["spec"]["containers"]
    assert claim["metadata"]["name"] in {mount["name"] for mount in container["volumeMounts"]}
    made = render(SETS["trial"]).find("Secret", name)
    assert made["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_is_found_by_its_service_and_says_when_it_is_ready(name: str) -> None:
    rendered = render(SETS["trial"])
    service = rendered.find("Service", name)["spec"]
    template = server(name)["spec"]["template"]
    assert service["selector"].items() <= template["metadata"]["labels"].items()
    assert server(name)["spec"]["serviceName"] == f"sfumato-{name}"
    (container,) = template["spec"]["containers"]
    assert {port["port"] for port in service["ports"]} == {
        port["containerPort"] for port in container["ports"]
    }
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()


def test_the_api_is_told_each_servers_address() -> None:
    rendered = render(SETS["trial"])
    (api,) = rendered.find("Deployment", "api")["spec"]["template"]["spec"]["containers"]
    given = environment(api)
    names = {
        "SFUMATO_DATABASE_URL": ("sfumato-postgresql", "url"),
        "SFUMATO_QUEUE_URL": ("sfumato-rabbitmq", "url"),
        "AWS_ACCESS_KEY_ID": ("sfumato-seaweedfs", "access-key"),
        "AWS_SECRET_ACCESS_KEY": ("sfumato-seaweedfs", "secret-key"),
    }
    for variable, (name, key) in names.items():
        assert given[variable] == {"secretKeyRef": {"name": name, "key": key}}
        assert key in rendered.find("Secret", name)["stringData"]
    hosts = {
        name: f"sfumato-{name}.pictures.svc:{port}"
        for name, port in (("postgresql", 5432), ("rabbitmq", 5672), ("seaweedfs", 8333))
    }
    assert urlsplit(secret("postgresql")["url"]).netloc.endswith("@" + hosts["postgresql"])
    assert urlsplit(secret("rabbitmq")["url"]).netloc.endswith("@" + hosts["rabbitmq"])
    assert given["SFUMATO_S3_ENDPOINT"] == f"http://{hosts['seaweedfs']}"
    for name in ("postgresql", "rabbitmq"):
        assert urlsplit(secret(name)["url"]).password == secret(name)["password"]


def test_first_credentials_are_ones_that_the_service_takes() -> None:
    made = render().find("Secret", "credentials")["stringData"]
    check_secret(made["api-key"], KEY_PREFIX)
    check_secret(made["scaling-key"], KEY_PREFIX)
    check_secret(made["worker-token"], TOKEN_PREFIX)
    assert len(set(made.values())) == 3


def test_a_secret_of_ones_own_is_taken_in_place_of_a_new_one() -> None:
    rendered = render({"credentials": {"existingSecret": "mine"}})
    assert not rendered.all("Secret")
    (api,) = rendered.find("Deployment", "api")["spec"]["template"]["spec"]["containers"]
    assert environment(api)["SFUMATO_BOOTSTRAP_WORKER_TOKEN"] == {
        "secretKeyRef": {"name": "mine", "key": "worker-token"}
    }


class BundledS3(PrivateS3):
    """SeaweedFS as the chart starts it, on ports of the test's."""

    port_names = ("s3", "s3.grpc", "master", "master.grpc", "volume", "volume.grpc")
    port_names += ("filer", "filer.grpc", "admin", "admin.grpc")

    def environment(self) -> Mapping[str, str]:
        keys = secret("seaweedfs")
        return {
            **os.environ,
            "AWS_ACCESS_KEY_ID": keys["access-key"],
            "AWS_SECRET_ACCESS_KEY": keys["secret-key"],
        }

    def command(self) -> list[str]:
        (container,) = server("seaweedfs")["spec"]["template"]["spec"]["containers"]
        given = [
            argument.replace("-dir=/data", f"-dir={self.folder / 'data'}").replace(
                "-ip.bind=0.0.0.0", "-ip.bind=127.0.0.1"
            )
            for argument in container["args"]
            if not argument.startswith("-s3.port=8333")
        ]
        ports = [
            f"-{name.partition('.')[0]}.port{'.grpc' if '.' in name else ''}={port}"
            for name, port in self.ports.items()
        ]
        return [self._program, *given, *ports]

    def answers(self) -> bool:
        (container,) = server("seaweedfs")["spec"]["template"]["spec"]["containers"]
        return http_status(self.url + container["readinessProbe"]["httpGet"]["path"]) == 200

    def images(self, **other: str) -> ObjectImageStore:
        """The store of pictures as the service opens it."""
        keys = secret("seaweedfs")
        options = {
            "access_key_id": keys["access-key"],
            "secret_access_key": keys["secret-key"],
            "region": "us-east-1",
            "endpoint": self.url,
            "allow_http": "true",
            "virtual_hosted_style_request": "false",
            **other,
        }
        return ObjectImageStore("s3://sfumato", options=options)


async def test_the_bundled_s3_server_starts_with_its_bucket_and_keeps_pictures() -> None:
    with private(BundledS3) as s3:
        images = s3.images()
        await images.check()
        await images.put("jobs/1/0.png", b"a picture", media_type="image/png")
        await images.close()
        s3.restart()
        images = s3.images()
        assert (await images.get("jobs/1/0.png")).data == b"a picture"
        await images.close()
        stranger = s3.images(secret_access_key="guessed")
        with pytest.raises(StartupRefused):
            await stranger.check()
        await stranger.close()
