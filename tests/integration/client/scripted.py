"""A service of the wire's exact words over a real socket, which fails when a test tells it to."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from sfumato import AsyncClient, Client

JOB_ID = "01k9zs6v7m3b8d0p1q2r3s4t5v"
PICTURE = b"\x89PNG\r\n\x1a\n and more"


def job_json(**changes: Any) -> dict[str, Any]:
    return {
        "id": JOB_ID,
        "status": "succeeded",
        "runtime": "default",
        "model": "starter",
        "created_at": "2026-11-21T05:00:00.000+00:00",
        "started_at": "2026-11-21T05:00:01.000+00:00",
        "finished_at": "2026-11-21T05:00:03.500+00:00",
        "attempts": 1,
        "waiting": None,
        "request": {"prompt": "a castle"},
        "used": {
            "model": "starter",
            "width": 128,
            "height": 128,
            "render_width": 128,
            "render_height": 128,
            "num_inference_steps": 2,
            "guidance_scale": 5.0,
            "sampler": "dpmpp_2m",
            "seed": 2**64 - 1,
        },
        "seed": 2**64 - 1,
        "notes": ["starter does not know: zebra"],
        "error": None,
        "images": [
            {
                "index": 0,
                "url": f"/v1/jobs/{JOB_ID}/images/0",
                "media_type": "image/png",
                "width": 128,
                "height": 128,
                "size_bytes": len(PICTURE),
                "sha256": "0" * 64,
                "seed": 2**64 - 1,
            }
        ],
        "timings": {
            "queued": 0.5,
            "starting": 1.0,
            "loading": 0.25,
            "denoising": 2.0,
            "storing": 0.125,
        },
        "metadata": {},
        "told by a newer service": True,
        **changes,
    }


def problem_json(status: int, code: str, **extra: Any) -> dict[str, Any]:
    return {
        "type": f"urn:problem-type:sfumato:{code}",
        "title": code,
        "status": status,
        "detail": f"What is {code}.",
        "code": code,
        **extra,
    }


def event(number: int, kind: str, **data: Any) -> bytes:
    payload = json.dumps({"at": "2026-11-21T05:00:00.000+00:00", **data})
    return f"id: {number}\nevent: {kind}\ndata: {payload}\n\n".encode()


STORY = [
    event(1, "queued"),
    event(2, "started", attempt=1, worker="w"),
    event(3, "step", step=1, steps=2),
    event(4, "step", step=2, steps=2),
    event(5, "succeeded", images=1),
]


class Exchange(BaseHTTPRequestHandler):
    """One request and its answer."""

    server: ScriptedServer  # type: ignore[assignment]
    protocol_version = "HTTP/1.1"

    def answer(
        self, status: int, body: object = b"", media_type: str = "application/json", **headers: str
    ) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Content-Type", media_type)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def problem(self, status: int, code: str, **extra: Any) -> None:
        headers = extra.pop("headers", {})
        body = problem_json(status, code, **extra)
        self.answer(status, body, "application/problem+json", **headers)

    def begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"retry: 1000\n\n")

    def stream(self, *pieces: bytes) -> None:
        """A stream that the service closes after these pieces."""
        self.begin_stream()
        for piece in pieces:
            self.wfile.write(piece)
            self.wfile.flush()
        self.close_connection = True

    def drop(self) -> None:
        """Break the connection instead of answering."""
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        service = self.server.service
        service.requests.append(Request(self.command, self.path, dict(self.headers), body))
        act = service.script.pop(0) if service.script else service.usual
        act(self)

    do_GET = do_POST = _handle  # noqa: N815 - the base class calls them so

    def log_message(self, *_: object) -> None:
        pass


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Act = Callable[[Exchange], None]


@dataclass
class Service:
    """``script``: what happens to the next requests, one each; then all goes as usual."""

    url: str = ""
    script: list[Act] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    #: Set at the end of the test, for exchanges that hang until then.
    over: threading.Event = field(default_factory=threading.Event)

    def usual(self, exchange: Exchange) -> None:
        path = exchange.path.partition("?")[0]
        if exchange.command == "POST" and path == "/v1/jobs":
            exchange.answer(202, job_json(status="queued", images=[], waiting="queued behind 3"))
        elif path.endswith("/cancel"):
            exchange.answer(200, job_json(status="canceled", images=[]))
        elif path.endswith("/events"):
            after = int(exchange.headers.get("Last-Event-ID", 0))
            exchange.stream(*STORY[after:]) if after < len(STORY) else exchange.answer(204)
        elif "/images/" in path:
            exchange.answer(200, PICTURE, "image/png")
        elif path == f"/v1/jobs/{JOB_ID}":
            exchange.answer(200, job_json())
        else:
            exchange.problem(404, "not_found")


class ScriptedServer(ThreadingHTTPServer):
    daemon_threads = True
    service: Service


class Caller:
    """Either client under one face, so that every test holds for both."""

    def __init__(self, client: Client | AsyncClient) -> None:
        self._client = client

    async def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        method = getattr(self._client, name)
        if isinstance(self._client, Client):
            return await asyncio.to_thread(method, *arguments, **options)
        return await method(*arguments, **options)

    async def collect(self, name: str, *arguments: Any, **options: Any) -> list[Any]:
        iterator = getattr(self._client, name)(*arguments, **options)
        if isinstance(self._client, Client):
            return await asyncio.to_thread(list, iterator)
        return [item async for item in iterator]
