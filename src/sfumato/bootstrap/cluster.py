"""The cluster around a process: what a worker tells it and hears from it, what a service asks it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping

from sfumato.adapters.kubernetes import KubernetesApi, KubernetesClusterView, OwnPod
from sfumato.adapters.spot import AwsSpot, AzureSpot, GcpSpot, Metadata, MetadataSpotNotices
from sfumato.core.ports import Clock, SpotNotices
from sfumato.services.waiting import ClusterReasons
from sfumato.settings import Settings, SpotNoticesOf
from sfumato.worker.spot import drain_at_notice

log = logging.getLogger(__name__)

_METADATA: Mapping[SpotNoticesOf, Callable[[], Metadata]] = {
    SpotNoticesOf.AWS: AwsSpot,
    SpotNoticesOf.GCP: GcpSpot,
    SpotNoticesOf.AZURE: AzureSpot,
}


class WorkerSurroundings:
    """A worker's pod, and the machine that it may lose; by settings, else nothing at all."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._clock = clock
        self._notices = _spot_notices(settings, clock)
        self._api: KubernetesApi | None = None
        self._pod: OwnPod | None = None
        if settings.pod_name is not None and settings.pod_namespace is not None:
            self._api = _api(settings)
            self._pod = OwnPod(self._api, namespace=settings.pod_namespace, name=settings.pod_name)

    def busy(self, busy: bool) -> None:  # noqa: FBT001 - a state
        """The worker holds jobs, or none; returns at once."""
        if self._pod is not None:
            self._pod.busy(busy)

    @contextlib.asynccontextmanager
    async def followed(self, drain: Callable[[float], None]) -> AsyncIterator[None]:
        """For as long as the block runs.

        Args:
            drain: called when the machine is to go, with the seconds that jobs may still take.
        """
        async with contextlib.AsyncExitStack() as stack:
            following = []
            if self._api is not None and self._pod is not None:
                await stack.enter_async_context(self._api)
                following.append(self._pod.keep_marked())
            if self._notices is not None:
                following.append(drain_at_notice(self._notices, self._clock, drain))
            tasks = [asyncio.create_task(each) for each in following]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                for ended in await asyncio.gather(*tasks, return_exceptions=True):
                    if isinstance(ended, Exception):  # no job depends on any of it
                        log.error("the cluster was not followed any more", exc_info=ended)


@contextlib.asynccontextmanager
async def open_cluster_reasons(
    settings: Settings, clock: Clock
) -> AsyncIterator[ClusterReasons | None]:
    """Who tells why jobs wait for pods; None where workers are no pods of this cluster."""
    if settings.cluster_namespace is None:
        yield None
        return
    async with _api(settings) as api:
        view = KubernetesClusterView(api, namespace=settings.cluster_namespace)
        yield ClusterReasons(view, clock=clock)


def _api(settings: Settings) -> KubernetesApi:
    return KubernetesApi(settings.cluster_api, settings.cluster_credentials)


def _spot_notices(settings: Settings, clock: Clock) -> SpotNotices | None:
    if settings.spot_notices is SpotNoticesOf.NONE:
        return None
    metadata = _METADATA[settings.spot_notices]()
    return MetadataSpotNotices(metadata, clock=clock, address=settings.spot_endpoint)
