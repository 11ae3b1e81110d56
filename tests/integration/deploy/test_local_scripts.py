"""The scripts behind ``make images``, ``deploy`` and ``k8s-local``, with stand-ins for their tools.

There is no Docker and no cluster here: what is tested is what the scripts would call, in which
order, with flags that the tools have, and that what they install is what the chart can render.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from sfumato import __version__
from tests.support.chart import pod_spec
from tests.support.command_lines import wrong
from tests.support.script_machine import ROOT, STAND_IN, Machine, installed, open_machine, values_of


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return open_machine(tmp_path)


@pytest.fixture(autouse=True)
def every_call_is_one_that_its_tool_takes(machine: Machine) -> Any:
    yield
    assert [problem for call in machine.calls if (problem := wrong(call))] == []


def test_shellcheck_has_nothing_to_say() -> None:
    shellcheck = Path(sysconfig.get_path("scripts")) / "shellcheck"
    files = [*(ROOT / "deploy" / "local").glob("*.sh"), STAND_IN]
    done = subprocess.run(
        [shellcheck, "--external-sources", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""


@pytest.mark.parametrize("script", ["images", "release", "up", "down"])
def test_a_script_stops_at_its_first_error(script: str) -> None:
    file = ROOT / "deploy" / "local" / f"{script}.sh"
    assert "\nset -euo pipefail\n" in file.read_text()
    assert os.access(file, os.X_OK)


class TestImages:
    def test_both_are_built_and_told_apart_by_their_ids(self, machine: Machine) -> None:
        machine.done("images.sh")
        builds = machine.called("docker", "buildx", "build")
        assert [call[call.index("--target") + 1] for call in builds] == ["api", "worker"]
        for call in builds:
            assert "SOURCE_DATE_EPOCH=1700000000" in call
            assert "--load" in call
            assert not any("TORCH_INDEX" in word for word in call), "PyPI's torch brings CUDA"
        images = yaml.safe_load((machine.root / "build/images.local.yaml").read_text())["images"]
        assert images["api"]["tag"].startswith("local-")
        assert images["api"]["tag"] != images["worker"]["tag"]
        tagged = [call[-1] for call in machine.called("docker", "tag")]
        assert tagged == [f"{each['repository']}:{each['tag']}" for each in images.values()]

    def test_without_a_gpu_torch_comes_without_cuda(self, machine: Machine) -> None:
        machine.done("images.sh", GPU="")
        worker = machine.called("docker", "buildx", "build")[1]
        assert "TORCH_INDEX=https://download.pytorch.org/whl/cpu" in worker
        assert worker[worker.index("--tag") + 1].endswith("-cpu")

    @pytest.mark.parametrize(
        ("cluster", "load"),
        [
            ("k3d", ["k3d", "image", "import", "--cluster", "sfumato"]),
            ("kind", ["kind", "load", "docker-image", "--name", "sfumato"]),
        ],
    )
    def test_a_local_cluster_gets_them(
        self, machine: Machine, cluster: str, load: list[str]
    ) -> None:
        machine.done("images.sh", CLUSTER=cluster)
        (call,) = machine.called(*load)
        tagged = [each[-1] for each in machine.called("docker", "tag")]
        assert call[len(load) :] == tagged

    def test_pushed_ones_carry_sbom_and_provenance_and_are_known_by_digest(
        self, machine: Machine
    ) -> None:
        machine.done("images.sh", PUSH="1", IMAGE_REGISTRY="registry.example.com/art", TAG="7")
        for call in machine.called("docker", "buildx", "build"):
            assert {"--sbom=true", "--provenance=mode=max"} <= set(call)
            assert "type=image,push=true,rewrite-timestamp=true" in call
            assert "--load" not in call
        assert machine.called("docker", "buildx", "create"), "the usual builder can't attest"
        images = yaml.safe_load((machine.root / "build/images.yaml").read_text())["images"]
        assert images["worker"]["repository"] == "registry.example.com/art/sfumato-worker"
        assert images["api"]["digest"].startswith("sha256:")
        assert images["api"]["digest"] != images["worker"]["digest"]
        assert "tag" not in images["api"]

    def test_a_private_index_is_a_secret_of_the_build(self, machine: Machine) -> None:
        machine.done("images.sh", PIP_CONFIG="pip.conf", PYTHON_IMAGE="mirror/python@sha256:0")
        for call in machine.called("docker", "buildx", "build"):
            assert call[call.index("--secret") + 1] == "id=pip,src=pip.conf"
            assert "PYTHON_IMAGE=mirror/python@sha256:0" in call


class TestRelease:
    @pytest.mark.parametrize(
        ("provider", "overlay"),
        [
            ("gce://project/zone/node", "gke"),
            ("aws:///eu-west-1a/i-0", "eks"),
            ("kind://docker/sfumato/node", "kind"),
            ("k3s://node", "k3d"),
            ("", "bare-metal"),
        ],
    )
    def test_the_nodes_say_which_overlay_is_theirs(
        self, machine: Machine, provider: str, overlay: str
    ) -> None:
        machine.done("release.sh", "install", PROVIDER=provider)
        (call,) = machine.called("helm", "upgrade", "--install", "sfumato")
        assert values_of(call) == [
            f"deploy/overlays/{overlay}/values.yaml",
            "deploy/overlays/trial/values.yaml",
        ]
        assert installed(machine).all("Deployment")

    def test_the_namespace_is_restricted_before_anything_is_in_it(self, machine: Machine) -> None:
        machine.done("release.sh", "install", NAMESPACE="art")
        label = next(i for i, call in enumerate(machine.calls) if call[1] == "label")
        assert "pod-security.kubernetes.io/enforce=restricted" in machine.calls[label]
        assert machine.calls[label][:4] == ["kubectl", "label", "namespace", "art"]
        assert machine.calls[label + 1][:2] == ["helm", "upgrade"]

    def test_a_scaledobject_and_scaledjobs_take_each_other_s_place(self, machine: Machine) -> None:
        kinds = {}
        for scaled in ("scaledobject", "scaledjob"):
            machine.done("release.sh", "install", scaled, OVERLAY="gke")
            kinds[scaled] = {each["kind"] for each in installed(machine)}
        assert "ScaledObject" in kinds["scaledobject"]
        assert "ScaledJob" not in kinds["scaledobject"]
        assert "ScaledJob" in kinds["scaledjob"]
        assert "ScaledObject" not in kinds["scaledjob"]

    @pytest.mark.parametrize("overlay", ["bare-metal", "coreweave", "eks", "gke"])
    def test_without_a_gpu_none_is_asked_for(self, machine: Machine, overlay: str) -> None:
        machine.done("release.sh", "install", OVERLAY=overlay)
        assert "nvidia.com/gpu" in yaml.safe_dump(list(installed(machine)))
        machine.done("release.sh", "install", "scaledjob", OVERLAY=overlay, GPU="")
        rendered = installed(machine)
        assert "nvidia.com/gpu" not in yaml.safe_dump(list(rendered))
        assert not rendered.all("NodePool")
        (job,) = rendered.all("ScaledJob")
        spec = pod_spec(job)
        assert spec is not None
        assert spec["containers"][0]["image"].endswith(f":{__version__}-cpu")

    def test_pushed_images_are_installed_by_digest(self, machine: Machine) -> None:
        machine.done("images.sh", PUSH="1")
        machine.done("release.sh", "install", OVERLAY="eks")
        pods = yaml.safe_dump(installed(machine).all("Deployment"))
        assert pods.count("ghcr.io/sfumato/sfumato-api@sha256:") == 1
        assert pods.count("ghcr.io/sfumato/sfumato-worker@sha256:") == 1

    def test_values_of_yours_take_the_place_of_the_trial_s(self, machine: Machine) -> None:
        (machine.root / "mine.yaml").write_text(
            "database: {existingSecret: {name: mine}}\nstorage: {imagesUrl: gs://mine}\n"
        )
        machine.done("release.sh", "install", OVERLAY="gke", VALUES="mine.yaml")
        assert not installed(machine).all("StatefulSet")

    def test_without_keda_nothing_is_installed(self, machine: Machine) -> None:
        machine.there("no-keda")
        assert "make deploy-keda" in machine.refused("release.sh", "install")
        assert not machine.called("helm", "upgrade")
        machine.done("release.sh", "keda")
        (call,) = machine.called("helm", "upgrade", "--install", "keda")
        assert "--wait" in call

    def test_without_a_cluster_that_is_what_it_says(self, machine: Machine) -> None:
        machine.there("no-cluster")
        assert "reaches no cluster" in machine.refused("release.sh", "install")
        assert not machine.called("helm")

    def test_an_overlay_that_is_not_there_is_told_with_those_that_are(
        self, machine: Machine
    ) -> None:
        told = machine.refused("release.sh", "install", OVERLAY="aks")
        assert "bare-metal coreweave eks gke k3d kind" in told

    def test_uninstalling_keeps_what_is_stored_and_says_so(self, machine: Machine) -> None:
        told = machine.done("release.sh", "uninstall", NAMESPACE="art")
        (call,) = machine.called("helm", "uninstall", "sfumato")
        assert "--ignore-not-found" in call
        assert "kubectl delete namespace art" in told


class TestLocalCluster:
    @pytest.mark.parametrize("cluster", ["k3d", "kind"])
    def test_one_command_goes_from_nothing_to_a_picture(
        self, machine: Machine, cluster: str
    ) -> None:
        machine.done("up.sh", CLUSTER=cluster)
        load = {"k3d": ["k3d", "image", "import"], "kind": ["kind", "load", "docker-image"]}
        order = [
            [cluster, "create", "cluster"] if cluster == "kind" else [cluster, "cluster", "create"],
            ["docker", "buildx", "build"],
            load[cluster],
            ["helm", "upgrade", "--install", "keda"],
            ["helm", "upgrade", "--install", "sfumato"],
            ["curl"],
        ]
        first = [
            next(i for i, call in enumerate(machine.calls) if call[: len(each)] == each)
            for each in order
        ]
        assert first == sorted(first)
        assert bool(machine.called("helm", "upgrade", "--install", "traefik")) == (
            cluster == "kind"
        )
        assert (machine.root / "build/castle.png").read_bytes()[1:4] == b"PNG"

        pods = yaml.safe_dump(installed(machine).all("Deployment"))
        assert "pullPolicy: Never" in pods.replace("imagePullPolicy", "pullPolicy")
        assert "nvidia.com/gpu" not in pods

    @pytest.mark.parametrize("cluster", ["k3d", "kind"])
    def test_your_own_clusters_are_left_alone(self, machine: Machine, cluster: str) -> None:
        machine.done("up.sh", CLUSTER=cluster, KUBECONFIG="/home/me/.kube/config")
        own = machine.root / "build/k8s-local.kubeconfig"
        for tool in ("kubectl", "helm"):
            assert machine.kubeconfigs(tool) == {f"KUBECONFIG={own}"}
        assert own.stat().st_mode & 0o077 == 0

    def test_the_ingress_listens_on_this_machine_alone(self, machine: Machine) -> None:
        machine.done("up.sh", CLUSTER="kind", LOCAL_PORT="9000")
        (node,) = yaml.safe_load((machine.state / "kind.yaml").read_text())["nodes"]
        (mapping,) = node["extraPortMappings"]
        assert (mapping["listenAddress"], mapping["hostPort"]) == ("127.0.0.1", 9000)
        (traefik,) = machine.called("helm", "upgrade", "--install", "traefik")
        assert f"ports.web.nodePort={mapping['containerPort']}" in traefik
        (machine.state / "cluster").unlink()
        machine.done("up.sh", CLUSTER="k3d", LOCAL_PORT="9000")
        assert "127.0.0.1:9000:80@loadbalancer" in machine.called("k3d", "cluster", "create")[0]

    def test_the_key_is_seen_by_nobody(self, machine: Machine) -> None:
        told = machine.done("up.sh", CLUSTER="k3d")
        assert (machine.state / "curl-config").read_text() == (
            'header = "Authorization: Bearer sfk_secret"\n'
        )
        assert "sfk_secret" not in told
        assert "sfk_secret" not in (machine.state / "calls").read_text()

    def test_a_second_time_the_cluster_is_kept(self, machine: Machine) -> None:
        machine.there("cluster")
        machine.done("up.sh", CLUSTER="k3d")
        assert not machine.called("k3d", "cluster", "create")
        assert machine.called("helm", "upgrade", "--install", "sfumato")

    def test_no_picture_is_an_error_that_says_where_to_look(self, machine: Machine) -> None:
        machine.there("no-picture")
        told = machine.refused("up.sh", CLUSTER="k3d")
        assert "No picture came" in told
        assert "get pods,events" in told

    @pytest.mark.parametrize("cluster", ["k3d", "kind"])
    def test_it_goes_as_it_came(self, machine: Machine, cluster: str) -> None:
        machine.done("up.sh", CLUSTER=cluster)
        machine.done("down.sh", CLUSTER=cluster)
        assert "delete" in machine.calls[-1]
        assert not (machine.root / "build/k8s-local.kubeconfig").exists()

    def test_k3d_is_taken_where_both_are(self, machine: Machine) -> None:
        machine.done("down.sh")
        assert machine.calls[-1][0] == "k3d"
        (machine.path / "k3d").unlink()
        machine.done("down.sh")
        assert machine.calls[-1][0] == "kind"


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        (["docker"], "Docker Engine"),
        (["helm"], "helm.sh"),
        (["kubectl"], "kubernetes.io/docs/tasks/tools"),
        (["curl"], "the package curl"),
        (["k3d", "kind"], "k3d or kind is needed"),
    ],
)
def test_a_missing_tool_is_named_with_where_it_comes_from(
    machine: Machine, missing: list[str], says: str
) -> None:
    for tool in missing:
        (machine.path / tool).unlink()
    assert says in machine.refused("up.sh")
    assert not any("create" in call for call in machine.calls), "nothing was begun"


def test_a_docker_that_does_not_answer_is_told(machine: Machine) -> None:
    machine.there("docker-is-down")
    assert "Docker does not answer" in machine.refused("images.sh")


def test_make_hands_its_variables_to_the_scripts(machine: Machine) -> None:
    for tool in ("make", "awk"):
        found = shutil.which(tool)
        assert found is not None
        (machine.path / tool).symlink_to(found)
    shutil.copy(ROOT / "Makefile", machine.root)
    run: Callable[..., Any] = machine.run
    assert run("make", "deploy-scaledjob", "OVERLAY=gke", GPU="").returncode == 0
    (call,) = machine.called("helm", "upgrade", "--install", "sfumato")
    assert "workers.scaling=job" in call
    assert "workers.gpu.count=0" in call
    for target in ("images", "deploy", "deploy-scaledobject", "deploy-keda", "undeploy"):
        assert run("make", target).returncode == 0, target
    assert run("make", "k8s-local", "CLUSTER=kind").returncode == 0
    assert run("make", "k8s-local-down", "CLUSTER=kind").returncode == 0
