"""Liveness and readiness, for whoever sends traffic here or keeps the process alive."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response
from pydantic import BaseModel

from sfumato import __version__
from sfumato.api.context import ApiContext, Services
from sfumato.core.errors import SfumatoError

#: A store that takes longer than this to answer is not ready.
_READY_SECONDS = 5.0

router = APIRouter(tags=["health"])


class Health(BaseModel):
    status: str = "ok"
    version: str = __version__


class Readiness(BaseModel):
    ready: bool
    waiting_for: list[str]


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz")
async def healthz() -> Health:
    """The process lives. It says nothing about what it depends on."""
    return Health()


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", responses={503: {"model": Readiness}})
async def readyz(context: Services, response: Response) -> Readiness:
    """Whether a request sent now would be accepted, and if not, what is missing."""
    waiting_for = await not_ready(context)
    if waiting_for:
        response.status_code = 503
        response.headers["Retry-After"] = "1"
    return Readiness(ready=not waiting_for, waiting_for=waiting_for)


async def not_ready(context: ApiContext) -> list[str]:
    """What is missing before a request would be accepted, a sentence each."""
    try:
        async with asyncio.timeout(_READY_SECONDS):
            waiting_for = list(await context.ready())
    except SfumatoError as error:
        waiting_for = [error.message]
    except TimeoutError:
        waiting_for = [f"The job store has not answered for {_READY_SECONDS:g} seconds."]
    if context.stopping.is_set():
        waiting_for.append("The server is about to stop.")
    return waiting_for
