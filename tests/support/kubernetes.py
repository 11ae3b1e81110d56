"""An API server of Kubernetes for tests: over HTTPS, with an authority and tokens of its own."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import re
import ssl
import threading
from collections.abc import Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.answering import Answering

_PATH = re.compile(r"/api/v1/namespaces/(?P<namespace>[^/]+)/(?P<resource>[a-z]+)(/(?P<name>.+))?")
_VERBS = {"GET": "get", "PATCH": "patch"}  # any other method is answered with 501

#: An object as its manifest has it.
Thing = dict[str, Any]


class ApiServer(Answering):
    """``with`` it. Its credentials lie in a folder as the kubelet mounts them.

    Attributes:
        pods, events: what there is; may be changed while it serves.
        calls: every call that it let in: verb, resource, name.
        refuses: the status that each call gets, in place of an answer; None: none.
    """

    def __init__(self, credentials: Path, *, namespace: str = "pictures") -> None:
        self.credentials = credentials
        self.namespace = namespace
        self.pods: list[Thing] = []
        self.events: list[Thing] = []
        self.calls: list[tuple[str, str, str]] = []
        self.refuses: int | None = None
        self.changed = threading.Condition()
        credentials.mkdir(parents=True, exist_ok=True)
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        server.socket = _certified(credentials).wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        super().__init__(server)
        self.url = f"https://127.0.0.1:{server.server_port}"
        self.rotate_token("first")

    def rotate_token(self, token: str) -> None:
        """As the kubelet does: the token before is good no more."""
        self.token = token
        (self.credentials / "token").write_text(token)

    def settings(self) -> dict[str, Any]:
        """Of a process that is to find it."""
        return {"cluster_api": self.url, "cluster_credentials": self.credentials}

    def pod(self, name: str) -> Thing:
        return next(pod for pod in self.pods if pod["metadata"]["name"] == name)

    def marks(self, name: str) -> Mapping[str, str]:
        """The annotations of a pod."""
        with self.changed:
            marks: Mapping[str, str] = dict(self.pod(name)["metadata"].get("annotations", {}))
            return marks

    def wait_marked(self, name: str, marks: Mapping[str, str], *, timeout: float = 60) -> None:
        """Returns once a pod's annotations are exactly these."""
        with self.changed:
            done = self.changed.wait_for(
                lambda: self.pod(name)["metadata"].get("annotations", {}) == marks, timeout
            )
        assert done, (self.marks(name), self.calls)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def do_GET(self) -> None:
                self._do()

            def do_PATCH(self) -> None:
                self._do()

            def _do(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                kind = self.headers.get("Content-Type", "")
                token = self.headers.get("Authorization", "")
                status, answer = server.answer(self.command, self.path, token, kind, body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Nothing: the tests look at the calls."""

        return Handler

    def answer(
        self, method: str, target: str, token: str, kind: str, body: bytes
    ) -> tuple[int, Thing]:
        if token != f"Bearer {self.token}":
            return 401, {"kind": "Status", "message": "Unauthorized"}
        parts = urlsplit(target)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        found = _PATH.fullmatch(parts.path)
        if found is None:
            return 404, {"kind": "Status", "message": f"no {parts.path}"}
        name = found["name"] or ""
        verb = _VERBS[method] if name or method != "GET" else "list"
        verb = "watch" if "watch" in query else verb
        with self.changed:
            self.calls.append((verb, found["resource"], name))
            self.changed.notify_all()
            if self.refuses is not None:
                said = f'{found["resource"]} is forbidden: User "x" cannot {verb} it'
                return self.refuses, {"kind": "Status", "message": said}
            if found["namespace"] != self.namespace:
                return 403, {"kind": "Status", "message": "another namespace"}
            if (verb, found["resource"]) == ("patch", "pods"):
                assert kind == "application/merge-patch+json", kind
                return self._patch(name, json.loads(body))
            if (verb, found["resource"]) == ("list", "pods"):
                return 200, {"kind": "PodList", "items": list(_labelled(self.pods, query))}
            if (verb, found["resource"]) == ("list", "events"):
                assert query["fieldSelector"] == "involvedObject.kind=Pod"
                return 200, {"kind": "EventList", "items": self.events}
        return 405, {"kind": "Status", "message": f"{verb} {found['resource']} is not known here"}

    def _patch(self, name: str, patch: Thing) -> tuple[int, Thing]:
        names = [pod["metadata"]["name"] for pod in self.pods]
        if name not in names:
            return 404, {"kind": "Status", "message": f'pods "{name}" not found'}
        assert list(patch) == ["metadata"], patch
        assert list(patch["metadata"]) == ["annotations"], patch
        metadata = self.pod(name)["metadata"]
        merged = {**metadata.get("annotations", {}), **patch["metadata"]["annotations"]}
        metadata["annotations"] = {k: v for k, v in merged.items() if v is not None}
        return 200, self.pod(name)


def pod(
    name: str,
    *,
    runtime: str = "default",
    created: str = "2026-11-21T10:00:00Z",
    **status: Any,
) -> Thing:
    """A worker's pod. ``status``: as in its manifest, ``phase`` and all."""
    return {
        "metadata": {
            "name": name,
            "uid": f"uid-of-{name}",
            "labels": {"sfumato.dev/runtime": runtime},
            "creationTimestamp": created,
        },
        "status": {"phase": "Pending", **status},
    }


def event(
    of: str,
    reason: str,
    message: str = "",
    *,
    at: str = "2026-11-21T10:00:05Z",
    component: str = "default-scheduler",
) -> Thing:
    """What has happened to a pod."""
    return {
        "metadata": {"name": f"{of}.1", "creationTimestamp": at},
        "involvedObject": {"kind": "Pod", "name": of, "uid": f"uid-of-{of}"},
        "reason": reason,
        "message": message,
        "lastTimestamp": at,
        "source": {"component": component},
    }


def _labelled(pods: Iterable[Thing], query: Mapping[str, str]) -> Iterable[Thing]:
    key, _, value = query["labelSelector"].partition("=")
    return (pod for pod in pods if pod["metadata"]["labels"].get(key) == value)


def _certified(folder: Path) -> ssl.SSLContext:
    """A server's context; its authority's certificate is left in the folder."""
    key, name = ec.generate_private_key(ec.SECP256R1()), _name("kubernetes")
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    authority, own = folder / "ca.crt", folder / "own.pem"
    authority.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    own.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, own)
    own.unlink()
    return context


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
