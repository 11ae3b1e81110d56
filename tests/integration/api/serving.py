"""The HTTP application over the memory adapters, in-process or behind a real uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from sfumato.api.app import create_app
from sfumato.api.context import ApiContext
from sfumato.api.schemas import RuntimeReport
from sfumato.core.runtimes import Runtime
from sfumato.services.costs import Costs
from sfumato.services.placement import Scaling
from tests.support.parts import House


@dataclass
class Api:
    """The app over a house, and a client of it."""

    house: House
    app: FastAPI
    http: httpx.AsyncClient

    async def draw(self, **fields: Any) -> dict[str, Any]:
        """A finished job."""
        async with self.house.working():
            response = await self.http.post(
                "/v1/jobs",
                json={"prompt": "a castle at night", **fields},
                headers={"Prefer": "wait=30"},
            )
        assert response.status_code == 200, response.text
        job: dict[str, Any] = response.json()
        return job


def context_of(house: House, *, key_required: bool = False) -> ApiContext:
    """What bootstrap would hand to the app."""

    async def report(runtime: str) -> RuntimeReport:
        counts = await house.store.counts(runtime)
        return RuntimeReport(queued=counts.queued, running=counts.running)

    async def ready() -> Sequence[str]:
        await house.store.counts("default")
        return []

    return ApiContext(
        submission=house.submission,
        tracking=house.tracking,
        catalog=house.catalog,
        runtimes=[Runtime("default")],
        runtime_report=report,
        ready=ready,
        workers=house.workers,
        clock=house.clock,
        costs=Costs(book=house.costs, keys=house.keys._keys),
        scaling=Scaling(store=house.store, runtimes=[Runtime("default")], clock=house.clock),
        access=house.keys,
        web=house.web,
        remote=house.remote(),
        key_required=key_required,
    )


def ask(app: FastAPI) -> httpx.AsyncClient:
    """A client of the app, without a socket between."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://sfumato")


@contextlib.asynccontextmanager
async def serving(context: ApiContext, *others: ApiContext, port: int = 0) -> AsyncIterator[str]:
    """The app behind uvicorn on this machine, by default on a free port; answers its address.

    With more contexts, each request goes to the next of so many replicas.
    """
    contexts = (context, *others)
    replicas = itertools.cycle([create_app(context) for context in contexts])

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await next(replicas)(scope, receive, send)

    with socket.create_server(("127.0.0.1", port)) as listener:
        config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=10)
        server = uvicorn.Server(config)
        running = asyncio.create_task(server._serve([listener]))
        port = listener.getsockname()[1]
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            for each in contexts:
                each.stopping.set()
            server.should_exit = True
            await running
