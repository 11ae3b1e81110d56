"""Slots and a clock for tests of the worker's pure parts."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any


@dataclass(eq=False)
class PlainSlot:
    batch_key: str
    rows: int = 1
    steps: int = 1
    priority: int = 0
    pixels: int = 1
    step: int = 0
    notes: tuple[str, ...] = ()

    @property
    def cost(self) -> int:
        return self.pixels * self.rows

    @property
    def task(self) -> Any:
        return SimpleNamespace(request=SimpleNamespace(priority=self.priority))


class HandClock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.1

    def __call__(self) -> float:
        return self.now
