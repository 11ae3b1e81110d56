"""One runtime of the chart, in each of its forms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.support.chart import Manifest, Rendered, merge, render

#: What ``workers:`` may say of a runtime: how it scales …
SCALINGS: dict[str, dict[str, Any]] = {
    "deployment": {"scaling": "deployment"},
    "job": {"scaling": "job"},
    "knative": {"scaling": "knative"},
    "kserve": {
        "scaling": "kserve",
        "replicas": {"min": 1},
        "kserve": {"prometheus": {"serverAddress": "http://prometheus:9090", "query": "up"}},
    },
    "kserve-knative": {"scaling": "kserve", "kserve": {"mode": "Knative"}},
}
#: … what it is scaled by …
TRIGGERS: dict[str, dict[str, Any]] = {
    "metrics-api": {},
    "rabbitmq": {"existingSecret": {"name": "rabbitmq", "key": "management"}},
    "aws-sqs-queue": {"aws": {"region": "eu-west-1", "account": "111122223333"}},
    "postgresql": {},
    "external-push": {},
}
#: … and how it shares GPUs.
SHARINGS: dict[str, dict[str, Any]] = {
    "cpu": {"count": 0},
    "whole": {"class": "l4", "alternatives": ["a10g"], "platform": "eks"},
    "time-slicing": {
        "class": "l4",
        "platform": "eks",
        "sharing": {"mode": "time-slicing", "replicas": 4},
    },
    "mps": {"class": "l4", "platform": "gke", "sharing": {"mode": "mps", "replicas": 2}},
    "mig": {
        "class": "a100-40",
        "platform": "gfd",
        "sharing": {"mode": "mig", "migProfile": "1g.5gb"},
        "node": {"cpu": 64, "memory": 512, "gpus": 4},
    },
}
#: Where models and images come from.
MODELS: dict[str, dict[str, Any]] = {
    "api": {},
    "volume": {"volume": {"claim": "models"}},
    "s3 mount": {"s3Mount": {"enabled": True, "bucket": "models", "region": "eu-west-1"}},
    "node cache": {"cache": {"type": "claim", "claim": "cache"}},
    "disk for each pod": {"cache": {"type": "ephemeral", "storageClass": "fast"}},
    "image volume": {"imageVolume": {"repository": "r.example.com/models", "tag": "1"}},
    "everything": {
        "prefetch": {"enabled": True},
        "imageVolume": {"repository": "r.example.com/models", "digest": "sha256:" + "ab" * 32},
        "volume": {"claim": "models", "subPath": "sd"},
        "s3Mount": {"enabled": True, "bucket": "m", "region": "eu-west-1", "prefix": "sd/"},
        "gkeSecondaryBootDisk": {"image": "worker-images", "project": "p"},
        "bottlerocketSnapshot": {"id": "snap-0123456789abcdef0"},
    },
}

KARPENTER: dict[str, Any] = {
    "gpu": {"karpenter": {"create": True, "clusterName": "prod", "nodeRole": "KarpenterNode"}}
}


def values_of(
    runtime: Mapping[str, Any] | None = None, others: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Values with a runtime ``r``, and others beside it."""
    return merge({"runtimes": [{"name": "r", **(runtime or {})}]}, others or {})


def render_runtime(
    runtime: Mapping[str, Any] | None = None, others: Mapping[str, Any] | None = None
) -> Rendered:
    return render(values_of(runtime, others))


def matrix() -> Iterator[Any]:
    """Parameters such that any two of them, of different kinds, occur together."""
    for i, (where, models) in enumerate(MODELS.items()):
        for j, (how, scaling) in enumerate(SCALINGS.items()):
            shared = list(SHARINGS)[(i + j) % len(SHARINGS)]
            by = list(TRIGGERS)[(i + 2 * j) % len(TRIGGERS)]
            if (how, by) == ("job", "external-push"):
                by = "metrics-api"
            runtime = {
                **scaling,
                "gpu": SHARINGS[shared],
                "trigger": {"type": by, **TRIGGERS[by]},
            }
            nodes = KARPENTER if shared in ("whole", "time-slicing") else {}
            others = merge(nodes, {"models": models})
            yield pytest.param(values_of(runtime, others), id=f"{how}-{by}-{shared}-{where}")


def refused_by_restricted(spec: Manifest) -> list[str]:
    """What the restricted Pod Security Standard of Kubernetes 1.33 finds wrong with a pod."""
    wrong = [field for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field)]
    for volume in spec.get("volumes", []):
        wrong += [f"volume {kind}" for kind in volume.keys() - {"name"} - _VOLUMES]
    of_pod = spec.get("securityContext", {})
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        own = container.get("securityContext", {})
        both = {**of_pod, **own}
        capabilities = own.get("capabilities", {})
        rules = {
            "runAsNonRoot": both.get("runAsNonRoot") is True,
            "runAsUser": 0 not in (of_pod.get("runAsUser"), own.get("runAsUser")),
            "seccompProfile": both.get("seccompProfile", {}).get("type") == "RuntimeDefault",
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "privileged": not own.get("privileged"),
            "capabilities": capabilities == {"drop": ["ALL"]},
            "hostPort": not any("hostPort" in port for port in container.get("ports", [])),
        }
        wrong += [f"{container['name']}: {rule}" for rule, kept in rules.items() if not kept]
    return wrong


_VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image"),
    *("persistentVolumeClaim", "projected", "secret"),
}
