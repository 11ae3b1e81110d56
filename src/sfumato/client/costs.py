"""What jobs cost, as frozen values."""

from __future__ import annotations

from datetime import datetime

from sfumato.client.answer import Answer


class CostTotal(Answer):
    """What was spent on one group, in one currency. What was not asked for as a group is None.

    Attributes:
        key, key_name: whose jobs; None for jobs of no key, too.
        day: by UTC, as 2026-11-21.
        jobs: how many had an attempt that ended.
        images: how many pictures were delivered.
        cost: money, in ``currency``; None for what had no price.
    """

    key: str | None = None
    key_name: str | None = None
    model: str | None = None
    runtime: str | None = None
    day: str | None = None
    jobs: int
    images: int
    gpu_seconds: float
    cost: float | None = None
    currency: str | None = None


class CostList(Answer):
    """The totals of a time; ``until`` itself no longer counts."""

    since: datetime
    until: datetime
    costs: tuple[CostTotal, ...]
