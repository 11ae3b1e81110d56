"""What jobs cost: seconds of a device, and money where the operator has set a price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class Charge:
    """What an attempt, or all attempts of a job, took.

    Attributes:
        gpu_seconds: for how long the device was busy with it; of what it shared with other jobs,
            its share.
        cost: money, in ``currency``; None where there was no price.
        currency: as ``USD``.
    """

    gpu_seconds: float = 0.0
    cost: float | None = None
    currency: str | None = None

    def __add__(self, later: Charge) -> Charge:
        """Both together, in the later one's currency: an operator has one."""
        costs = [cost for cost in (self.cost, later.cost) if cost is not None]
        return Charge(
            self.gpu_seconds + later.gpu_seconds,
            sum(costs) if costs else None,
            later.currency or self.currency,
        )

    def __bool__(self) -> bool:
        return self.gpu_seconds > 0

    def told(self) -> dict[str, Any]:
        """As part of an event's data: empty where nothing was spent."""
        if not self:
            return {}
        money = {} if self.cost is None else {"cost": self.cost, "currency": self.currency}
        return {"gpu_seconds": self.gpu_seconds, **money}


NOTHING = Charge()


@dataclass(frozen=True, slots=True)
class Price:
    """What an hour of a GPU of some class costs."""

    per_hour: float
    currency: str

    def charge(self, gpu_seconds: float) -> Charge:
        return Charge(gpu_seconds, gpu_seconds * self.per_hour / 3600, self.currency)


#: A runtime's name -> its price; one that is missing has none.
Prices = Mapping[str, Price]


def charge(gpu_seconds: float, price: Price | None) -> Charge:
    """What an attempt costs by the price of now."""
    return Charge(gpu_seconds) if price is None else price.charge(gpu_seconds)


class CostGroup(StrEnum):
    """By what totals can be told apart."""

    KEY = "key"
    MODEL = "model"
    RUNTIME = "runtime"
    DAY = "day"  #: by UTC


@dataclass(frozen=True, slots=True)
class CostTotal:
    """What was spent on one group, in one currency. What it was not asked to be told apart by is
    None.

    Attributes:
        key: id of the key that made the jobs; None for jobs of no key, too.
        day: of the month's, as 2026-11-21.
        jobs: how many had an attempt that ended.
        images: how many pictures were delivered.
        cost: money, in ``currency``; None for what had no price.
    """

    jobs: int
    images: int
    gpu_seconds: float
    cost: float | None
    currency: str | None
    key: str | None = None
    model: str | None = None
    runtime: str | None = None
    day: str | None = None
