"""What attempts took, one row each, and the totals of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select

from sfumato.adapters.sql.database import Database
from sfumato.adapters.sql.schema import charges
from sfumato.core.charges import Charge, CostGroup, CostTotal

_DAY_SECONDS = 86_400
_NEW = charges.insert()
_COLUMNS = {
    CostGroup.KEY: charges.c.owner,
    CostGroup.MODEL: charges.c.model,
    CostGroup.RUNTIME: charges.c.runtime,
    CostGroup.DAY: charges.c.day,
}


def enter(
    connection: Connection, job: Row[Any], *, now: float, images: int, charge: Charge
) -> None:
    """Write down what an attempt took, in the transaction that ends it.

    Args:
        job: as it is now.
        images: how many pictures it delivered.
    """
    if not (images or charge):
        return
    connection.execute(
        _NEW,
        {
            "job_id": job.id,
            "attempt": job.attempt,
            "at": now,
            "day": int(now // _DAY_SECONDS),
            "owner": job.owner,
            "model": json.loads(job.settings)["model"],
            "runtime": job.runtime,
            "images": images,
            "gpu_seconds": charge.gpu_seconds,
            "cost": charge.cost,
            "currency": charge.currency,
        },
    )


class SqlCostBook:
    """The ``CostBook`` port."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def totals(
        self,
        *,
        by: Sequence[CostGroup],
        since: float,
        until: float,
        owner: str | None = None,
    ) -> Sequence[CostTotal]:
        columns: list[Any] = [
            *(_COLUMNS[group].label(f"of_{group.value}") for group in by),
            func.count(charges.c.job_id.distinct()).label("jobs"),
            func.sum(charges.c.images).label("images"),
            func.sum(charges.c.gpu_seconds).label("gpu_seconds"),
            func.sum(charges.c.cost).label("cost"),
            charges.c.currency,
        ]
        statement = (
            select(*columns)
            .where(charges.c.at >= since, charges.c.at < until)
            .group_by(*(_COLUMNS[group] for group in by), charges.c.currency)
        )
        if owner is not None:
            statement = statement.where(charges.c.owner == owner)
        rows = await self._database.read(lambda c: c.execute(statement).all())
        totals = [_total(row, by) for row in rows]
        # Here, for each database has an order of texts of its own.
        return sorted(totals, key=lambda total: _place(total, by))


def _total(row: Row[Any], by: Sequence[CostGroup]) -> CostTotal:
    names = {group.value: getattr(row, f"of_{group.value}") for group in by}
    if CostGroup.DAY in by:
        moment = datetime.fromtimestamp(names["day"] * _DAY_SECONDS, UTC)
        names["day"] = moment.date().isoformat()
    return CostTotal(
        jobs=row.jobs,
        images=int(row.images),
        gpu_seconds=row.gpu_seconds,
        cost=row.cost,
        currency=row.currency,
        **names,
    )


def _place(total: CostTotal, by: Sequence[CostGroup]) -> list[str]:
    names = [getattr(total, group.value) for group in by]
    return [name or "" for name in (*names, total.currency)]
