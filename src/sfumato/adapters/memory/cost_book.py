"""Totals of what a memory job store wrote down."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime

from sfumato.adapters.memory.job_store import MemoryJobStore
from sfumato.core.charges import Charge, CostGroup, CostTotal
from sfumato.core.job import Job

_Line = tuple[Job, float, int, Charge]


class MemoryCostBook:
    """The ``CostBook`` port."""

    def __init__(self, store: MemoryJobStore) -> None:
        self._store = store

    async def totals(
        self,
        *,
        by: Sequence[CostGroup],
        since: float,
        until: float,
        owner: str | None = None,
    ) -> Sequence[CostTotal]:
        groups: dict[tuple[str | None, ...], list[_Line]] = defaultdict(list)
        for line in self._store.charges:
            job, at, _, charge = line
            if since <= at < until and owner in (None, job.owner):
                groups[*(_value(line, group) for group in by), charge.currency].append(line)
        return [
            _total(groups[names], dict(zip(by, names, strict=False)))
            for names in sorted(groups, key=lambda names: [name or "" for name in names])
        ]


def _value(line: _Line, group: CostGroup) -> str | None:
    job, at, _, _ = line
    match group:
        case CostGroup.KEY:
            return job.owner
        case CostGroup.MODEL:
            return job.settings.model
        case CostGroup.RUNTIME:
            return job.runtime
        case CostGroup.DAY:
            return datetime.fromtimestamp(at, UTC).date().isoformat()


def _total(lines: Sequence[_Line], names: dict[CostGroup, str | None]) -> CostTotal:
    costs = [charge.cost for _, _, _, charge in lines if charge.cost is not None]
    return CostTotal(
        jobs=len({job.id for job, _, _, _ in lines}),
        images=sum(images for _, _, images, _ in lines),
        gpu_seconds=sum(charge.gpu_seconds for _, _, _, charge in lines),
        cost=sum(costs) if costs else None,
        currency=lines[0][3].currency,
        **{group.value: name for group, name in names.items()},
    )
