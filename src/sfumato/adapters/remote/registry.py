"""The ``WorkerRegistry`` of a worker elsewhere: it tells of itself alone."""

from __future__ import annotations

from collections.abc import Sequence

from sfumato.adapters.remote.connection import RemoteConnection
from sfumato.core.ports import WorkerReport


class RemoteWorkerRegistry:
    """Reports go to the service, under the name that it knows the worker by."""

    def __init__(self, connection: RemoteConnection) -> None:
        self._connection = connection

    async def seen(self, report: WorkerReport) -> None:
        body = {
            "runtime": report.runtime,
            "device": report.device[:200],
            "models": list(report.models)[:64],
            "started_at": report.started_at,
        }
        await self._connection.call("POST", "/presence", body)

    async def gone(self, name: str) -> None:
        """Told by :meth:`RemoteAssignments.leave`."""

    async def list(self, *, since: float) -> Sequence[WorkerReport]:
        """A worker need not know of others."""
        del since
        return ()
