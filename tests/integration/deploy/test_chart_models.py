"""How models and images come to workers: each switch alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.chart import Manifest, Rendered, by_name, environment, merge
from tests.support.chart_runtimes import KARPENTER, refused_by_restricted, render_runtime

DIGEST = "sha256:" + "ab" * 32


def chart(models: dict[str, Any], **runtime: Any) -> Rendered:
    return render_runtime(runtime, {"models": models})


def pod(models: dict[str, Any]) -> Manifest:
    return chart(models).find("Deployment", "worker-r")["spec"]["template"]["spec"]


@pytest.mark.parametrize(
    ("models", "folder", "source"),
    [
        (
            {"volume": {"claim": "sd"}},
            "volume",
            {"persistentVolumeClaim": {"claimName": "sd", "readOnly": True}},
        ),
        (
            {"s3Mount": {"enabled": True, "bucket": "b", "region": "eu-west-1"}},
            "s3",
            {"persistentVolumeClaim": {"claimName": "sfumato-models-s3", "readOnly": True}},
        ),
        (
            {"imageVolume": {"repository": "r.example.com/sd", "digest": DIGEST}},
            "image",
            {"image": {"reference": f"r.example.com/sd@{DIGEST}", "pullPolicy": "IfNotPresent"}},
        ),
    ],
    ids=["read-only volume", "s3 mount", "image volume"],
)
def test_a_folder_of_models_is_mounted_read_only_and_searched(
    models: dict[str, Any], folder: str, source: Manifest
) -> None:
    spec = pod(models)
    container = spec["containers"][0]
    name = f"models-{folder}"
    assert by_name(spec["volumes"], name) == {"name": name, **source}
    mount = by_name(container["volumeMounts"], name)
    assert (mount["mountPath"], mount["readOnly"]) == (f"/models/{folder}", True)
    assert json.loads(environment(container)["SFUMATO_MODEL_FOLDERS"]) == [f"/models/{folder}"]


def test_without_a_folder_models_come_through_the_api_into_the_cache() -> None:
    spec = pod({"cache": {"size": "10Gi"}})
    container = spec["containers"][0]
    variables = environment(container)
    assert "SFUMATO_MODEL_FOLDERS" not in variables
    cache = by_name(container["volumeMounts"], "models-cache")["mountPath"]
    assert variables["SFUMATO_MODEL_CACHE"] == cache
    # A full disk ends the pod: the cache stays a tenth below it.
    assert int(variables["SFUMATO_MODEL_CACHE_BYTES"]) == 9 << 30
    assert by_name(spec["volumes"], "models-cache")["emptyDir"] == {"sizeLimit": "10Gi"}


def test_the_cache_can_be_a_claim_that_pods_share_or_a_disk_of_each() -> None:
    shared = pod({"cache": {"type": "claim", "claim": "nvme"}})
    volume = by_name(shared["volumes"], "models-cache")
    assert volume["persistentVolumeClaim"] == {"claimName": "nvme"}
    own = pod({"cache": {"type": "ephemeral", "storageClass": "fast", "size": "20Gi"}})
    claim = by_name(own["volumes"], "models-cache")["ephemeral"]["volumeClaimTemplate"]["spec"]
    assert claim["storageClassName"] == "fast"
    assert claim["resources"] == {"requests": {"storage": "20Gi"}}


def test_a_folder_of_the_node_is_the_one_choice_that_is_not_restricted() -> None:
    spec = pod({"cache": {"type": "hostPath", "path": "/mnt/models"}})
    assert refused_by_restricted(spec) == ["volume hostPath"]
    # Kubernetes would make a missing one root's.
    assert by_name(spec["volumes"], "models-cache")["hostPath"]["type"] == "Directory"


def test_the_bucket_is_mounted_by_the_driver_and_can_not_be_written_to() -> None:
    mount = {"enabled": True, "bucket": "b", "region": "eu-west-1", "prefix": "sd"}
    rendered = chart({"s3Mount": mount})
    volume = rendered.find("PersistentVolume", "pictures-sfumato-models-s3")["spec"]
    assert volume["csi"]["driver"] == "s3.csi.aws.com"
    assert volume["csi"]["volumeAttributes"] == {"bucketName": "b"}
    assert volume["mountOptions"] == [
        "read-only",
        "allow-other",
        "region eu-west-1",
        "prefix sd/",
    ]
    assert volume["accessModes"] == ["ReadOnlyMany"]
    assert volume["claimRef"] == {"namespace": "pictures", "name": "sfumato-models-s3"}
    claim = rendered.find("PersistentVolumeClaim", "sfumato-models-s3")["spec"]
    assert (claim["volumeName"], claim["storageClassName"]) == ("pictures-sfumato-models-s3", "")


def test_images_are_held_on_gpu_nodes_without_a_gpu() -> None:
    image = {"repository": "r.example.com/sd", "digest": DIGEST}
    runtimes = [
        {"name": "a", "gpu": {"class": "l4", "platform": "gke"}},
        {"name": "b", "gpu": {"class": "l4", "platform": "gke"}},
        {"name": "c", "gpu": {"class": "t4", "platform": "gke"}},
        {"name": "d", "gpu": {"count": 0}},
    ]
    models = {"prefetch": {"enabled": True}, "imageVolume": image}
    rendered = render_runtime(others={"runtimes": runtimes, "models": models})
    specs = [each["spec"]["template"]["spec"] for each in rendered.all("DaemonSet")]
    accelerators = [spec["nodeSelector"]["cloud.google.com/gke-accelerator"] for spec in specs]
    assert sorted(accelerators) == ["nvidia-l4", "nvidia-tesla-t4"]
    for spec in specs:
        (container,) = spec["containers"]
        assert container["image"].startswith("ghcr.io/sfumato/sfumato-worker")
        assert not [key for key in container["resources"]["limits"] if "/" in key]
        assert by_name(spec["volumes"], "models-image")["image"]["reference"].endswith(DIGEST)
        assert "nvidia.com/gpu" in {each["key"] for each in spec["tolerations"]}


def test_gke_attaches_a_disk_with_the_images() -> None:
    disk = {"gkeSecondaryBootDisk": {"image": "sd-images", "project": "acme"}}
    rendered = chart(disk, gpu={"class": "l4", "platform": "gke"})
    spec = rendered.find("Deployment", "worker-r")["spec"]["template"]["spec"]
    label = "cloud.google.com.node-restriction.kubernetes.io/gke-secondary-boot-disk-sd-images"
    assert spec["nodeSelector"][label] == "CONTAINER_IMAGE_CACHE.acme"


def test_bottlerocket_starts_from_a_snapshot_with_the_images() -> None:
    others = merge(KARPENTER, {"models": {"bottlerocketSnapshot": {"id": "snap-0abc"}}})
    rendered = render_runtime({"gpu": {"class": "l4", "platform": "eks"}}, others)
    spec = rendered.find("EC2NodeClass", "pictures-sfumato-l4-whole")["spec"]
    data = [disk for disk in spec["blockDeviceMappings"] if disk["deviceName"] == "/dev/xvdb"]
    assert data[0]["ebs"]["snapshotID"] == "snap-0abc"
    # On local disks, images would not be looked for in the snapshot.
    assert "instanceStorePolicy" not in spec
