"""What the routes work with, and how a route gets it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

from fastapi import Depends, Request

from sfumato.api.authentication import caller_of
from sfumato.api.schemas import RuntimeReport
from sfumato.core.keys import TRUSTED, Caller
from sfumato.core.ports import (
    NO_MEASURES,
    NO_TRACES,
    Clock,
    ImageStore,
    Measures,
    ModelCatalog,
    ModelReader,
    Traces,
    WebClient,
    WorkerRegistry,
)
from sfumato.core.runtimes import Runtime
from sfumato.services.access import Access
from sfumato.services.costs import Costs
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
        task_results_url: of the bucket in which tasks' results lie; None: only this service has
            them.
        key_required: whether callers need a key.
        caller: whose request it is; submission and tracking are his.
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
    costs: Costs
    access: Access
    web: WebClient
    remote: RemoteParts | None = None
    task_results_url: str | None = None
    key_required: bool = False
    caller: Caller = TRUSTED
    traces: Traces = NO_TRACES
    measures: Measures = NO_MEASURES
    stopping: asyncio.Event = field(default_factory=asyncio.Event)


async def _services(request: Request) -> ApiContext:  # not a plain function: that gets a thread
    context = request.app.state.context
    assert isinstance(context, ApiContext)  # noqa: S101 - create_app put it there
    return context


#: The services for routes that let in whom they like: health, and workers by their tokens.
Services = Annotated[ApiContext, Depends(_services)]


async def _context(request: Request, services: Services) -> ApiContext:
    caller = await caller_of(request, services.access, required=services.key_required)
    return replace(
        services,
        caller=caller,
        submission=services.submission.for_caller(caller),
        tracking=services.tracking.for_caller(caller),
    )


#: The services as the caller may use them. A route that takes it is closed to strangers.
Context = Annotated[ApiContext, Depends(_context)]
