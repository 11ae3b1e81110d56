"""Which adapter stands behind each port, by settings."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from sfumato.adapters.sql import (
    Database,
    SqlApiKeys,
    SqlCostBook,
    SqlJobStore,
    SqlWebhookStore,
    SqlWorkerRegistry,
    SqlWorkerTokens,
)
from sfumato.adapters.web_client import GuardedWebClient
from sfumato.bootstrap.clock import SystemClock
from sfumato.bootstrap.images import open_images
from sfumato.bootstrap.models import open_catalog, open_model_files
from sfumato.bootstrap.queues import open_queue
from sfumato.bootstrap.telemetry import Telemetry
from sfumato.core.charges import Price, Prices
from sfumato.core.ports import (
    ApiKeys,
    Clock,
    CostBook,
    ImageStore,
    JobQueue,
    JobStore,
    ModelCatalog,
    ModelFiles,
    WebClient,
    WebhookStore,
    WorkerRegistry,
    WorkerTokens,
)
from sfumato.core.runtimes import Runtime
from sfumato.services.result_cache import ResultCache
from sfumato.services.submission import Submission
from sfumato.services.watching import JobWatcher
from sfumato.settings import Settings

__all__ = [
    "Parts",
    "SystemClock",
    "open_parts",
    "prices_of",
    "results_of",
    "runtimes_of",
    "submission_of",
]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the services and the worker are built from."""

    clock: Clock
    store: JobStore
    queue: JobQueue
    images: ImageStore
    catalog: ModelCatalog
    model_files: ModelFiles | None
    runtimes: tuple[Runtime, ...]
    watcher: JobWatcher
    keys: ApiKeys
    tokens: WorkerTokens
    workers: WorkerRegistry
    web: WebClient
    hooks: WebhookStore
    costs: CostBook
    telemetry: Telemetry = field(default_factory=Telemetry)


@contextlib.asynccontextmanager
async def open_parts(
    settings: Settings, *, clock: Clock | None = None, telemetry: Telemetry | None = None
) -> AsyncIterator[Parts]:
    """Connect to everything; close it in reverse order.

    Args:
        clock: in place of the machine's own.
        telemetry: left out: nothing is told.

    Raises:
        StartupRefused: or a kind of it, naming the setting that is wrong. Nothing half-starts.
    """
    clock = clock or SystemClock()
    async with contextlib.AsyncExitStack() as stack:
        database = Database.open(settings.resolved_database_url)
        stack.push_async_callback(database.close)
        store = SqlJobStore(database)
        runtimes = runtimes_of(settings)
        queue = await open_queue(settings, database, clock, [runtime.name for runtime in runtimes])
        stack.push_async_callback(queue.close)
        images = open_images(settings)
        stack.push_async_callback(images.close)
        await images.check()
        catalog = await asyncio.to_thread(open_catalog, settings)
        watcher = await stack.enter_async_context(JobWatcher(store))
        yield Parts(
            clock=clock,
            store=store,
            queue=queue,
            images=images,
            catalog=catalog,
            model_files=open_model_files(settings, catalog),
            runtimes=runtimes,
            watcher=watcher,
            keys=SqlApiKeys(database),
            tokens=SqlWorkerTokens(database),
            workers=SqlWorkerRegistry(database),
            hooks=SqlWebhookStore(database),
            costs=SqlCostBook(database),
            web=await stack.enter_async_context(
                GuardedWebClient(plain_http=settings.web_plain_http, networks=settings.web_networks)
            ),
            telemetry=telemetry or Telemetry(),
        )


def submission_of(settings: Settings, parts: Parts) -> Submission:
    """What makes requests into jobs, whether they come over HTTP or as another system's tasks."""
    return Submission(
        store=parts.store,
        queue=parts.queue,
        images=parts.images,
        catalog=parts.catalog,
        runtimes=parts.runtimes,
        clock=parts.clock,
        limits=settings.limits,
        max_queued=settings.max_queued,
        determinism=settings.determinism,
        safety=settings.safety_rule,
        hooks=parts.hooks,
        results=results_of(settings, parts),
        traces=parts.telemetry.traces,
        measures=parts.telemetry.measures,
    )


def results_of(settings: Settings, parts: Parts) -> ResultCache | None:
    """What remembers the pictures of jobs, where the operator wants that."""
    if not settings.result_cache:
        return None
    return ResultCache(
        store=parts.store, images=parts.images, catalog=parts.catalog, clock=parts.clock
    )


def prices_of(runtimes: Sequence[Runtime]) -> Prices:
    """The prices of those that have one."""
    return {runtime.name: runtime.price for runtime in runtimes if runtime.price is not None}


def _price(per_hour: float | None, currency: str) -> Price | None:
    return None if per_hour is None else Price(per_hour, currency)


def runtimes_of(settings: Settings) -> tuple[Runtime, ...]:
    """The runtimes of the settings; without any, one that serves every model."""
    if not settings.runtimes:
        only = Runtime(
            "default", max_workers=settings.max_workers, idle_timeout=settings.idle_timeout
        )
        return (only,)
    return tuple(
        Runtime(
            given.name,
            models=given.models,
            max_workers=settings.max_workers if given.max_workers is None else given.max_workers,
            idle_timeout=given.idle_timeout or settings.idle_timeout,
            gpu_class=given.gpu_class,
            price=_price(given.gpu_hour_price, settings.currency),
        )
        for given in settings.runtimes
    )
