"""What the routes work with, and how a route gets it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from sfumato.api.schemas import RuntimeReport
from sfumato.core.ports import Clock, ImageStore, ModelCatalog, ModelReader, WorkerRegistry
from sfumato.core.runtimes import Runtime
from sfumato.services.placement import Scaling
from sfumato.services.remote_work import RemoteWork
from sfumato.services.submission import Submission
from sfumato.services.tracking import Tracking
from sfumato.services.worker_access import WorkerAccess


@dataclass(frozen=True, slots=True)
class RemoteParts:
    """What workers elsewhere are served from."""

    access: WorkerAccess
    work: RemoteWork
    images: ImageStore
    models: ModelReader


@dataclass(frozen=True, slots=True)
class ApiContext:
    """The services behind the routes.

    Attributes:
        runtime_report: what the runtime of a name is doing.
        remote: what serves workers elsewhere; None: there are none.
        ready: what is not ready yet, a sentence each; empty when everything is.
        stopping: set when the server is about to stop: streams and long polls then end, instead
            of holding it up.
    """

    submission: Submission
    tracking: Tracking
    catalog: ModelCatalog
    runtimes: Sequence[Runtime]
    runtime_report: Callable[[str], Awaitable[RuntimeReport]]
    ready: Callable[[], Awaitable[Sequence[str]]]
    workers: WorkerRegistry
    clock: Clock
    scaling: Scaling
    remote: RemoteParts | None = None
    stopping: asyncio.Event = field(default_factory=asyncio.Event)


async def _context(request: Request) -> ApiContext:  # not a plain function: that gets a thread
    context = request.app.state.context
    assert isinstance(context, ApiContext)  # noqa: S101 - create_app put it there
    return context


Context = Annotated[ApiContext, Depends(_context)]
