"""As much of a Kubernetes API server as Helm needs to install, upgrade and remove a chart.

It keeps what it is sent. Of a cluster's own work it does three things, that charts count on: the
plain text of a Secret becomes its data, a Job is complete at once, and what is deleted is gone.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.support.answering import Answering

_CLUSTER_WIDE = {"PriorityClass", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
_KINDS = {
    "v1": ("Secret", "Service", "ServiceAccount", "ConfigMap"),
    "apps/v1": ("Deployment", "StatefulSet", "DaemonSet"),
    "batch/v1": ("Job",),
    "policy/v1": ("PodDisruptionBudget",),
    "autoscaling/v2": ("HorizontalPodAutoscaler",),
    "networking.k8s.io/v1": ("NetworkPolicy", "Ingress"),
    "rbac.authorization.k8s.io/v1": ("Role", "RoleBinding"),
    "scheduling.k8s.io/v1": ("PriorityClass",),
    "admissionregistration.k8s.io/v1": (
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    ),
    "keda.sh/v1alpha1": ("ScaledObject", "ScaledJob", "TriggerAuthentication"),
}


class Cluster:
    """What there is, by its path; and in which order it was made.

    Attributes:
        objects: by path, as ``/api/v1/namespaces/pictures/secrets/first``.
        made: ``Kind/name`` of everything that was made, in order.
    """

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.made: list[str] = []

    def keep(self, path: str, manifest: dict[str, Any]) -> dict[str, Any]:
        """What becomes of an object that was sent."""
        if path not in self.objects:
            self.made.append(f"{manifest['kind']}/{manifest['metadata']['name']}")
        for key, text in manifest.pop("stringData", {}).items():
            manifest.setdefault("data", {})[key] = base64.b64encode(text.encode()).decode()
        if manifest["kind"] == "Job":
            conditions = [{"type": "Complete", "status": "True"}]
            manifest["status"] = {"succeeded": 1, "conditions": conditions}
        manifest["metadata"].setdefault("uid", path)
        manifest["metadata"]["resourceVersion"] = "1"
        self.objects[path] = manifest
        return manifest

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        """The objects of a kind, by name."""
        return {
            each["metadata"]["name"]: each for each in self.objects.values() if each["kind"] == kind
        }

    def secrets(self) -> dict[str, dict[str, str]]:
        return {name: each["data"] for name, each in self.of("Secret").items()}


@contextmanager
def serving() -> Iterator[tuple[Cluster, str]]:
    """A cluster, and the kubeconfig with which it is reached."""
    cluster = Cluster()
    handler = type("Handler", (_Handler,), {"cluster": cluster})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    with Answering(server):
        yield cluster, _kubeconfig(server.server_port)


def _kubeconfig(port: int) -> str:
    one = {"cluster": "test", "user": "test"}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": one}],
            "clusters": [{"name": "test", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "test", "user": {}}],
        }
    )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    #: Head and body go out together: apart, each answer would wait for an acknowledgement.
    wbufsize = -1
    cluster: Cluster

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        found = _discovered(url.path)
        if found is None:
            found = self.cluster.objects.get(url.path)
        if url.path == "/openapi/v2":
            # No schemas: tests hold objects against them by themselves.
            self._answer(200, b"", "application/com.github.proto-openapi.spec.v2.v1.0+protobuf")
        elif found is not None:
            self._tell(200, found)
        elif "watch" in parse_qs(url.query):
            # All there is was in the list, and nothing changes by itself.
            self._answer(200, b"")
        elif self._is_collection(url.path):
            self._tell(200, self._list(url.path, parse_qs(url.query)))
        else:
            self._missing()

    def do_POST(self) -> None:
        manifest = self._body()
        path = f"{urlsplit(self.path).path}/{manifest['metadata']['name']}"
        self._tell(201, self.cluster.keep(path, manifest))

    def do_PATCH(self) -> None:
        self._tell(200, self.cluster.keep(urlsplit(self.path).path, self._body()))

    def do_PUT(self) -> None:
        self.do_PATCH()

    def do_DELETE(self) -> None:
        self._body()
        if self.cluster.objects.pop(urlsplit(self.path).path, None) is None:
            self._missing()
        else:
            self._tell(200, {"kind": "Status", "apiVersion": "v1", "status": "Success"})

    def _body(self) -> Any:
        return yaml.safe_load(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    @staticmethod
    def _is_collection(path: str) -> bool:
        plurals = {_plural(kind) for kinds in _KINDS.values() for kind in kinds}
        return path.rpartition("/")[2] in plurals

    def _list(self, path: str, query: dict[str, list[str]]) -> dict[str, Any]:
        wanted = query.get("fieldSelector", [""])[0].removeprefix("metadata.name=")
        items = [
            each
            for key, each in self.cluster.objects.items()
            if key.startswith(f"{path}/") and wanted in ("", each["metadata"]["name"])
        ]
        return {"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}

    def _missing(self) -> None:
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404}
        self._tell(404, {**status, "reason": "NotFound", "message": "There is none."})

    def _tell(self, status: int, document: Any) -> None:
        self._answer(status, json.dumps(document).encode())

    def _answer(self, status: int, body: bytes, media_type: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _discovered(path: str) -> dict[str, Any] | None:
    """What the server tells of itself; None: the path is not for that."""
    if path == "/version":
        return {"major": "1", "minor": "33", "gitVersion": "v1.33.0"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/openapi/v3":
        return {"paths": {}}
    if path == "/apis":
        groups = []
        for version in _KINDS.keys() - {"v1"}:
            group, _, number = version.partition("/")
            known = {"groupVersion": version, "version": number}
            groups.append({"name": group, "versions": [known], "preferredVersion": known})
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    version = path.removeprefix("/apis/").removeprefix("/api/")
    if version not in _KINDS:
        return None
    resources = [
        {
            "name": _plural(kind),
            "singularName": kind.lower(),
            "namespaced": kind not in _CLUSTER_WIDE,
            "kind": kind,
            "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
        }
        for kind in _KINDS[version]
    ]
    return {"kind": "APIResourceList", "groupVersion": version, "resources": resources}


def _plural(kind: str) -> str:
    name = kind.lower()
    if name.endswith("y"):
        return f"{name[:-1]}ies"
    return f"{name}es" if name.endswith("s") else f"{name}s"
