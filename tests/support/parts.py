"""Services over the memory adapters, and a worker that draws patterns: a whole Sfumato, in-process."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from sfumato.adapters.memory import (
    MemoryApiKeys,
    MemoryCostBook,
    MemoryImageStore,
    MemoryJobQueue,
    MemoryJobStore,
    MemoryWebhookStore,
    MemoryWorkerRegistry,
    MemoryWorkerTokens,
)
from sfumato.adapters.models.reader import CatalogModelReader
from sfumato.adapters.web_client import GuardedWebClient
from sfumato.api.context import RemoteParts
from sfumato.bootstrap.parts import SystemClock
from sfumato.core.charges import Prices
from sfumato.core.finding import choose_model
from sfumato.core.job import Job
from sfumato.core.models import ModelDefaults, ModelInfo, ModelKind, ModelLayout
from sfumato.core.ports import ImageEngine, ImageStore, JobQueue, JobStore
from sfumato.core.request import GenerationRequest
from sfumato.core.runtimes import Runtime
from sfumato.core.webhooks import Webhook
from sfumato.engine.fake import FakeEngine
from sfumato.services.access import Access
from sfumato.services.execution import Execution
from sfumato.services.recovery import Recovery, RetryPolicy
from sfumato.services.remote_work import RemoteWork
from sfumato.services.result_cache import ResultCache
from sfumato.services.submission import Submission
from sfumato.services.tracking import Tracking
from sfumato.services.watching import JobWatcher
from sfumato.services.worker_access import WorkerAccess
from sfumato.worker.loop import Worker

MODEL = ModelInfo(
    "pattern",
    family="fake",
    layout=ModelLayout.DIFFUSERS,
    path="",
    defaults=ModelDefaults(width=64, height=64, num_inference_steps=4, sampler="euler"),
    vocabulary=frozenset(["a", "castle", "at", "night"]),
)


@dataclass
class ListCatalog:
    """A model catalogue that is a list; the first model is the default."""

    models: Sequence[ModelInfo] = (MODEL,)

    def list(self) -> Sequence[ModelInfo]:
        return self.models

    def get(self, name: str | None, kind: ModelKind = ModelKind.BASE) -> ModelInfo:
        default = self.models[0].name if kind is ModelKind.BASE else ""
        return choose_model(self.models, name or default, kind)

    async def refresh(self, *, max_age: float = 0.0) -> None:
        """Nothing to do: the list is what there is."""


@dataclass
class House:
    """Every part, wired as bootstrap does it, in memory unless given. Use :func:`open_house`."""

    clock: SystemClock = field(default_factory=SystemClock)
    catalog: ListCatalog = field(default_factory=ListCatalog)
    store: JobStore = field(default_factory=MemoryJobStore)
    queue: JobQueue = field(default_factory=lambda: MemoryJobQueue(SystemClock()))
    images: ImageStore = field(default_factory=MemoryImageStore)
    remembers: bool = False
    prices: Prices = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.watcher = JobWatcher(self.store)
        self.tokens = MemoryWorkerTokens()
        self.workers = MemoryWorkerRegistry()
        self.web = GuardedWebClient(
            plain_http=True, networks=[ipaddress.ip_network("127.0.0.0/8")], timeout=10.0
        )
        beside = self.store if isinstance(self.store, MemoryJobStore) else MemoryJobStore()
        self.hooks = MemoryWebhookStore(beside)
        self.costs = MemoryCostBook(beside)
        self.keys = Access(keys=MemoryApiKeys(), clock=self.clock)
        self.access = WorkerAccess(
            tokens=self.tokens,
            store=self.store,
            queue=self.queue,
            clock=self.clock,
            runtimes=["default"],
        )
        self.results = (
            ResultCache(
                store=self.store, images=self.images, catalog=self.catalog, clock=self.clock
            )
            if self.remembers
            else None
        )
        self.submission = Submission(
            store=self.store,
            queue=self.queue,
            images=self.images,
            catalog=self.catalog,
            runtimes=[Runtime("default")],
            clock=self.clock,
            hooks=self.hooks,
            results=self.results,
        )
        self.tracking = Tracking(
            store=self.store,
            queue=self.queue,
            images=self.images,
            watcher=self.watcher,
            clock=self.clock,
            hooks=self.hooks,
        )
        self.recovery = Recovery(
            store=self.store, queue=self.queue, images=self.images, clock=self.clock
        )

    def execution(
        self, name: str = "w1", *, lease: float = 30.0, reads_inputs: bool = True
    ) -> Execution:
        return Execution(
            worker=name,
            runtimes=["default"],
            store=self.store,
            queue=self.queue,
            images=self.images,
            catalog=self.catalog,
            watcher=self.watcher,
            clock=self.clock,
            lease=lease,
            policy=RetryPolicy(first_backoff=0.01),
            reads_inputs=reads_inputs,
            results=self.results,
            prices=self.prices,
        )

    def remote(self, *, lease: float = 30.0) -> RemoteParts:
        """What workers elsewhere are served from; each call is another replica's."""
        work = RemoteWork(
            store=self.store,
            images=self.images,
            catalog=self.catalog,
            clock=self.clock,
            open_execution=lambda worker, _runtime: self.execution(
                worker, lease=lease, reads_inputs=False
            ),
            lease=lease,
        )
        return RemoteParts(self.access, work, self.images, CatalogModelReader())

    def worker(
        self, engine: ImageEngine | None = None, *, name: str = "w1", **options: object
    ) -> Worker:
        return Worker(
            assignments=self.execution(name),
            make_engine=lambda: engine or FakeEngine(),
            clock=self.clock,
            started_at=self.clock.now(),
            **options,  # type: ignore[arg-type]
        )

    @contextlib.asynccontextmanager
    async def working(
        self, engine: ImageEngine | None = None, **options: object
    ) -> AsyncIterator[Worker]:
        """A worker beside the block; it drains at the end."""
        worker = self.worker(engine, **options)
        running = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            worker.drain()
            await running

    async def submit(
        self,
        prompt: str = "a castle at night",
        *,
        inputs: Mapping[str, bytes] | None = None,
        webhook: Webhook | None = None,
        idempotency_key: str | None = None,
        **fields: object,
    ) -> Job:
        request = GenerationRequest(prompt, **fields)  # type: ignore[arg-type]
        return await self.submission.submit(
            request, inputs=inputs, webhook=webhook, idempotency_key=idempotency_key
        )

    async def finished(self, job: Job) -> Job:
        done = await self.tracking.wait(job.id, timeout=30)
        assert done.status.finished, done
        return done

    async def kinds(self, job: Job) -> list[str]:
        return [event.kind.value for event in await self.store.events(job.id)]


@contextlib.asynccontextmanager
async def open_house(*models: ModelInfo, **parts: object) -> AsyncIterator[House]:
    house = House(catalog=ListCatalog(models or (MODEL,)), **parts)  # type: ignore[arg-type]
    async with house.watcher, house.web:
        yield house
