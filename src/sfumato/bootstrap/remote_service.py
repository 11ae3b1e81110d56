"""The service's side of workers elsewhere, put together."""

from __future__ import annotations

from sfumato.adapters.models.reader import CatalogModelReader
from sfumato.api.context import RemoteParts
from sfumato.bootstrap.models import open_model_store
from sfumato.bootstrap.parts import Parts, prices_of, results_of
from sfumato.services.execution import Execution
from sfumato.services.remote_work import RemoteWork
from sfumato.services.worker_access import WorkerAccess
from sfumato.settings import Settings


def open_remote(settings: Settings, parts: Parts) -> RemoteParts:
    """What the worker API is served from."""

    def execution(worker: str, runtime: str) -> Execution:
        return Execution(
            worker=worker,
            runtimes=[runtime],
            store=parts.store,
            queue=parts.queue,
            images=parts.images,
            catalog=parts.catalog,
            watcher=parts.watcher,
            clock=parts.clock,
            lease=settings.lease,
            reads_inputs=False,
            results=results_of(settings, parts),
            prices=prices_of(parts.runtimes),
            traces=parts.telemetry.traces,
            measures=parts.telemetry.measures,
        )

    work = RemoteWork(
        store=parts.store,
        images=parts.images,
        catalog=parts.catalog,
        clock=parts.clock,
        open_execution=execution,
        lease=settings.lease,
    )
    return RemoteParts(
        access=open_access(parts), work=work, images=parts.images, models=_reader(settings)
    )


def open_access(parts: Parts) -> WorkerAccess:
    """What makes and checks worker tokens."""
    return WorkerAccess(
        tokens=parts.tokens,
        store=parts.store,
        queue=parts.queue,
        clock=parts.clock,
        runtimes=[runtime.name for runtime in parts.runtimes],
    )


def _reader(settings: Settings) -> CatalogModelReader:
    if settings.models_bucket is None:
        return CatalogModelReader()
    return CatalogModelReader(open_model_store(settings.models_bucket, settings))
