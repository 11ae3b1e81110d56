"""A worker process for a service elsewhere: an outbound connection and a token are all it needs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import replace

from sfumato.adapters.models import FolderModelCatalog
from sfumato.adapters.models.cache import ModelCache
from sfumato.adapters.models.http_source import HttpSource
from sfumato.adapters.remote import (
    RemoteAssignments,
    RemoteConnection,
    RemoteModelUrls,
    RemoteWorkerRegistry,
    latest_model,
    to_be_brought,
)
from sfumato.bootstrap.clock import SystemClock
from sfumato.bootstrap.logs import configure_logging
from sfumato.bootstrap.models import STARTER
from sfumato.bootstrap.telemetry import WORKER_SERVICE, open_telemetry
from sfumato.bootstrap.working import SHORTEST_LONG_POLL, WorkerTerms, let_engine_run, run_worker
from sfumato.core.errors import StartupRefused
from sfumato.core.models import ModelInfo
from sfumato.core.ports import WorkerKind
from sfumato.settings import Settings

log = logging.getLogger(__name__)


def work_elsewhere(
    settings: Settings,
    *,
    runtime: str = "default",
    name: str | None = None,
    idle_timeout: float | None = None,
    once: bool = False,
    insecure: bool = False,
) -> None:
    """Work for the service at ``settings.connect`` until idle or told to stop.

    Args:
        idle_timeout: seconds; None: the setting's, 0: never.
        once: exit after one job, or at once when none waits.
        insecure: allow ``http://`` to another machine.

    Raises:
        StartupRefused: no token, or an address that is not private.
        Unauthorized, Forbidden: the token is not good, or not for this runtime.
        Unavailable: the service does not answer.
    """
    configure_logging(settings)
    let_engine_run()
    patience = settings.idle_timeout if idle_timeout is None else idle_timeout
    asyncio.run(
        _work(
            settings,
            runtime=runtime,
            name=_process_name(name),
            idle_timeout=patience or None,
            once=once,
            insecure=insecure,
        )
    )


async def _work(
    settings: Settings,
    *,
    runtime: str,
    name: str,
    idle_timeout: float | None,
    once: bool,
    insecure: bool,
) -> None:
    if settings.connect is None or settings.token is None:
        raise StartupRefused(
            "A worker for a service elsewhere needs its address and a worker token: --connect and "
            "SFUMATO_TOKEN. The service's operator makes one with `sfumato tokens create`.",
            field="token",
        )
    clock, started_at = SystemClock(), time.time()
    async with contextlib.AsyncExitStack() as stack:
        telemetry = stack.enter_context(open_telemetry(settings, service=WORKER_SERVICE))
        connection = await stack.enter_async_context(
            RemoteConnection(
                settings.connect, token=settings.token, worker=name, clock=clock, insecure=insecure
            )
        )
        greeting = await connection.greet(runtime)
        log.info("working for %r as %s", connection, greeting.worker)
        assignments = RemoteAssignments(
            connection,
            runtime=runtime,
            lease=greeting.lease,
            clock=clock,
            locate=_locator(settings),
        )
        terms = WorkerTerms(
            name=greeting.worker,
            runtime=runtime,
            kind=WorkerKind.REMOTE,
            lease=greeting.lease,
            idle_timeout=idle_timeout,
            once=once,
            once_patience=SHORTEST_LONG_POLL,  # whichever queue the service has
            started_at=started_at,
        )
        try:
            await run_worker(
                settings,
                terms,
                assignments=assignments,
                registry=RemoteWorkerRegistry(connection),
                files=_model_files(settings, connection),
                clock=clock,
                telemetry=telemetry,
            )
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await assignments.leave()


def _locator(settings: Settings) -> Callable[[ModelInfo], ModelInfo]:
    """Finds a model on this machine's own disk, where it need not be brought."""
    local = FolderModelCatalog(settings.resolved_model_folders, builtin=STARTER)

    def locate(model: ModelInfo) -> ModelInfo:
        for here in local.list():
            same = (here.kind, here.name) == (model.kind, model.name)
            if same and here.refusal is None and _same_files(here, model):
                return replace(model, path=here.path)
        return to_be_brought(model)

    return locate


def _same_files(here: ModelInfo, there: ModelInfo) -> bool:
    ours = {file.path: file for file in here.files}
    return len(ours) == len(there.files) and all(
        file.path in ours
        and file.size_bytes == ours[file.path].size_bytes
        and file.sha256 in ("", ours[file.path].sha256)
        for file in there.files
    )


def _model_files(settings: Settings, connection: RemoteConnection) -> ModelCache:
    return ModelCache(
        settings.resolved_model_cache,
        budget=settings.model_cache_bytes,
        source_of=lambda model: HttpSource(
            connection.http, RemoteModelUrls(connection, model).url_of
        ),
        latest=lambda model: latest_model(connection, model),
    )


def _process_name(name: str | None) -> str:
    """A name unlike any other process's: the service takes a name for one worker."""
    given = name or socket.gethostname() or "worker"
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", given).strip("-")[:80] or "worker"
    return f"{readable}-{secrets.token_hex(4)}"
