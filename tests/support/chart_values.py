"""Sets of values that between them make every object of the chart in each of its forms."""

from __future__ import annotations

from typing import Any

_DIGEST = "sha256:" + "ab" * 32
_GROUP = {"kind": "Group", "name": "artists", "apiGroup": "rbac.authorization.k8s.io"}

SETS: dict[str, dict[str, Any]] = {
    "least": {},
    "trial": {
        "database": {"existingSecret": {"name": ""}},
        "storage": {"imagesUrl": ""},
        "postgresql": {"enabled": True},
        "rabbitmq": {"enabled": True},
        "seaweedfs": {"enabled": True, "storage": {"className": "fast"}},
        "ingress": {"enabled": True},
    },
    "everything outside": {
        "fullnameOverride": "pictures",
        "commonLabels": {"team": "art"},
        "imagePullSecrets": [{"name": "registry"}],
        "images": {"api": {"digest": _DIGEST}, "worker": {"digest": _DIGEST}},
        "credentials": {"existingSecret": "first"},
        "queue": {"existingSecret": {"name": "broker", "key": "amqp"}},
        "storage": {
            "modelsUrl": "s3://models",
            "s3Endpoint": "https://minio.example.com:9000",
            "existingSecret": "bucket-keys",
        },
        "api": {
            "env": {"SFUMATO_RETENTION_DAYS": "30"},
            "serviceAccount": {
                "annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/x"}
            },
            "service": {"annotations": {"example.com/a": "b"}},
            "podAnnotations": {"example.com/a": "b"},
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "spot", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "priorityClassName": "front",
        },
        "ingress": {
            "enabled": True,
            "className": "nginx",
            "host": "pictures.example.com",
            "tlsSecret": "pictures-tls",
            "annotations": {"nginx.ingress.kubernetes.io/proxy-buffering": "off"},
        },
        "gateway": {
            "enabled": True,
            "parentRefs": [{"name": "front", "namespace": "gateways"}],
            "hostnames": ["pictures.example.com"],
            "requestTimeout": "0s",
        },
        "telemetry": {
            "traces": "otlp",
            "otlpEndpoint": "http://collector.tracing:4318",
            "logPrompts": True,
        },
        "monitoring": {
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "podMonitor": {"enabled": True},
            "dashboard": {"enabled": True},
        },
        "networkPolicy": {
            "callers": [{"namespaceSelector": {"matchLabels": {"name": "ingress"}}}],
            "apiEgress": [{"ports": [{"port": 5433}]}],
            "workerEgress": [{"ports": [{"port": 8200}]}],
        },
        "models": {
            "volume": {"claim": "models", "subPath": "sd"},
            "imageVolume": {"repository": "registry.example.com/models", "digest": _DIGEST},
        },
        "runtimes": [
            {
                "name": "fast",
                "models": ["sd-turbo"],
                "gpu": {"class": "l4", "platform": "gke"},
                "gpuHourPrice": 0.71,
            },
            {"name": "batch", "scaling": "job", "gpu": {"count": 0}},
        ],
        "rbac": {"operators": [_GROUP], "viewers": [{"kind": "User", "name": "eve"}]},
    },
    "everything off": {
        "api": {
            "replicas": 1,
            "autoscaling": {"enabled": False},
            "readsCluster": False,
            "serviceAccount": {"create": False, "name": "default"},
        },
        "migration": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "rbac": {"createRoles": False},
    },
}
