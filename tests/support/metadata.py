"""The metadata servers of three clouds for tests: each answers as its documentation says."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.answering import Answering
from tests.support.service import PATIENCE

_AZURE_NAME = "gpu_7"
_GOOGLE = {"Metadata-Flavor": "Google"}


class MetadataServer(Answering):
    """``with`` it. It gives no notice before :meth:`give_notice`.

    Attributes:
        down: whether every question is answered with 500.
        asked: how many questions about notices were answered.
        azure_events: what Azure's list has beside this machine's own.
    """

    def __init__(self) -> None:
        self.down = False
        self.asked = 0
        self.azure_events: list[dict[str, Any]] = []
        self._ends: datetime | None = None
        self._tokens: set[str] = set()
        self.changed = threading.Condition()
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        super().__init__(server)
        self.url = f"http://127.0.0.1:{server.server_port}"

    def give_notice(self, seconds: float) -> None:
        """This machine will be gone in so many seconds."""
        with self.changed:
            self._ends = datetime.now(UTC) + timedelta(seconds=seconds)
            self.changed.notify_all()

    def forget_tokens(self) -> None:
        """As EC2 does after a token's time."""
        self._tokens.clear()

    def wait_asked(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.asked >= count, PATIENCE)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._do()

            def do_PUT(self) -> None:
                self._do()

            def _do(self) -> None:
                parts = urlsplit(self.path)
                query = {key: values[0] for key, values in parse_qs(parts.query).items()}
                answer = server.answer(self.command, parts.path, query, dict(self.headers))
                status, body, headers = answer
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Nothing: the tests look at the answers."""

        return Handler

    def answer(
        self, method: str, path: str, query: dict[str, str], headers: dict[str, str]
    ) -> tuple[int, bytes, dict[str, str]]:
        if self.down:
            return 500, b"", {}
        match method, path:
            case "PUT", "/latest/api/token":
                assert headers["X-aws-ec2-metadata-token-ttl-seconds"] == "21600"
                self._tokens.add(f"token-{len(self._tokens)}")
                return 200, f"token-{len(self._tokens) - 1}".encode(), {}
            case "GET", "/latest/meta-data/spot/instance-action":
                return self._told(self._aws(headers))
            case "GET", "/computeMetadata/v1/instance/preempted":
                return self._told(self._gcp(query, headers))
            case "GET", "/metadata/instance/compute/name":
                assert (headers["Metadata"], query["format"]) == ("true", "text")
                return 200, _AZURE_NAME.encode(), {}
            case "GET", "/metadata/scheduledevents":
                assert (headers["Metadata"], query["api-version"]) == ("true", "2020-07-01")
                return self._told(self._azure())
        return 404, b"", {}

    def _told(self, answer: tuple[int, bytes, dict[str, str]]) -> tuple[int, bytes, dict[str, str]]:
        with self.changed:
            self.asked += 1
            self.changed.notify_all()
        return answer

    def _aws(self, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        if headers.get("X-aws-ec2-metadata-token") not in self._tokens:
            return 401, b"", {}
        if self._ends is None:
            return 404, b"", {}
        action = {"action": "terminate", "time": f"{self._ends:%Y-%m-%dT%H:%M:%SZ}"}
        return 200, json.dumps(action).encode(), {}

    def _gcp(
        self, query: dict[str, str], headers: dict[str, str]
    ) -> tuple[int, bytes, dict[str, str]]:
        if headers.get("Metadata-Flavor") != "Google":
            return 403, b"", _GOOGLE
        if query.get("wait_for_change") == "true":
            assert query["last_etag"] == "etag-1"
            with self.changed:
                self.changed.wait_for(lambda: self._ends is not None, float(query["timeout_sec"]))
        word = b"FALSE" if self._ends is None else b"TRUE"
        return 200, word, {**_GOOGLE, "ETag": "etag-1", "Content-Type": "application/text"}

    def _azure(self) -> tuple[int, bytes, dict[str, str]]:
        events = list(self.azure_events)
        if self._ends is not None:
            not_before = format_datetime(self._ends, usegmt=True)
            events.append(azure_event("Preempt", not_before, _AZURE_NAME))
        return 200, json.dumps({"DocumentIncarnation": 1, "Events": events}).encode(), {}


def azure_event(kind: str, not_before: str, *machines: str) -> dict[str, Any]:
    return {
        "EventId": "602d9444-d2cd-49c7-8624-8643e7171297",
        "EventType": kind,
        "ResourceType": "VirtualMachine",
        "Resources": list(machines),
        "EventStatus": "Scheduled" if not_before else "Started",
        "NotBefore": not_before,
        "Description": "Virtual machine is going to be evicted.",
        "EventSource": "Platform",
        "DurationInSeconds": -1,
    }
