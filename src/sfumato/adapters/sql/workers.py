"""The worker registry in SQL. Its writes don't wait for the disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select

from sfumato.adapters.sql.database import Database
from sfumato.adapters.sql.dialects import Insert
from sfumato.adapters.sql.schema import workers
from sfumato.core.ports import FORGOTTEN_AFTER, WorkerKind, WorkerReport

_GONE = workers.delete().where(workers.c.name == bindparam("ended"))
_FORGET = workers.delete().where(workers.c.seen_at < bindparam("before"))
_LATELY = select(workers).where(workers.c.seen_at >= bindparam("since")).order_by(workers.c.name)


def _replacing(statement: Insert) -> Insert:
    fresh = {column.name: column for column in statement.excluded if column.name != "name"}
    return statement.on_conflict_do_update(index_elements=[workers.c.name], set_=fresh)


class SqlWorkerRegistry:
    """The ``WorkerRegistry`` port."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen = _replacing(database.insert(workers))

    async def seen(self, report: WorkerReport) -> None:
        values = {
            "name": report.name,
            "runtime": report.runtime,
            "kind": report.kind.value,
            "device": report.device,
            "models": json.dumps(report.models),
            "started_at": report.started_at,
            "seen_at": report.seen_at,
        }

        def work(connection: Connection) -> None:
            connection.execute(self._seen, values)
            connection.execute(_FORGET, {"before": report.seen_at - FORGOTTEN_AFTER})

        await self._database.write(work, durable=False)

    async def gone(self, name: str) -> None:
        await self._database.write(lambda c: c.execute(_GONE, {"ended": name}), durable=False)

    async def list(self, *, since: float) -> Sequence[WorkerReport]:
        rows = await self._database.read(lambda c: c.execute(_LATELY, {"since": since}).all())
        return [_report_of(row) for row in rows]


def _report_of(row: Row[Any]) -> WorkerReport:
    return WorkerReport(
        name=row.name,
        runtime=row.runtime,
        kind=WorkerKind(row.kind),
        device=row.device,
        models=tuple(json.loads(row.models)),
        started_at=row.started_at,
        seen_at=row.seen_at,
    )
