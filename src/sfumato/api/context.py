"""What the routes work with, and how a route gets it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from sfumato.api.schemas import RuntimeReport
from sfumato.core.ports import ModelCatalog
from sfumato.core.runtimes import Runtime
from sfumato.services.submission import Submission
from sfumato.services.tracking import Tracking


@dataclass(frozen=True, slots=True)
class ApiContext:
    """The services behind the routes.

    Attributes:
        runtime_report: what the runtime of a name is doing.
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
    stopping: asyncio.Event = field(default_factory=asyncio.Event)


def _context(request: Request) -> ApiContext:
    context = request.app.state.context
    assert isinstance(context, ApiContext)  # noqa: S101 - create_app put it there
    return context


Context = Annotated[ApiContext, Depends(_context)]
