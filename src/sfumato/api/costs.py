"""What was spent, in totals."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from sfumato.api.context import Context
from sfumato.api.schemas import PROBLEMS, Moment
from sfumato.core.charges import CostGroup, CostTotal

#: What is told of where no time is asked for.
_USUAL_SECONDS = 30 * 86_400.0

router = APIRouter(prefix="/v1", tags=["costs"], responses=PROBLEMS)


class CostView(BaseModel):
    """What was spent on one group, in one currency. What was not asked for as a group is null."""

    key: str | None = Field(description="Id of the key; null for jobs of no key, too.")
    key_name: str | None = Field(description="What people call it; null where that is not known.")
    model: str | None
    runtime: str | None
    day: str | None = Field(description="By UTC.", examples=["2026-11-21"])
    jobs: int = Field(description="Jobs of which an attempt ended.")
    images: int = Field(description="Pictures that were delivered.")
    gpu_seconds: float
    cost: float | None = Field(description="Money; null for what had no price.")
    currency: str | None

    @classmethod
    def of(cls, total: CostTotal, names: dict[str, str]) -> CostView:
        return cls(**asdict(total), key_name=names.get(total.key or ""))


class CostList(BaseModel):
    since: Moment
    until: Moment
    costs: list[CostView]


@router.get("/costs")
async def get_costs(
    context: Context,
    group: Annotated[
        list[CostGroup] | None,
        Query(max_length=4, description="Told apart by; may be given again. None: one total."),
    ] = None,
    since: Annotated[
        datetime | None, Query(description="When the attempts ended; 30 days before, without.")
    ] = None,
    until: Annotated[
        datetime | None, Query(description="No longer counts itself; now, without.")
    ] = None,
) -> CostList:
    """What jobs took of the GPUs and what that cost, by the prices of when they ended.

    A key sees what its own jobs cost; one that may see all jobs sees everybody's. Times without a
    zone are UTC.
    """
    by = group or []
    end = context.clock.now() if until is None else _seconds(until)
    start = end - _USUAL_SECONDS if since is None else _seconds(since)
    totals = await context.costs.totals(context.caller, by=by, since=start, until=end)
    names = await context.costs.names() if CostGroup.KEY in by else {}
    return CostList(since=start, until=end, costs=[CostView.of(total, names) for total in totals])


def _seconds(moment: datetime) -> float:
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
