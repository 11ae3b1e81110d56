"""Whose the device's time was: each moment that it is busy is charged to the jobs it is busy for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, pairwise
from typing import NamedTuple

from sfumato.worker.run import JobRun


class Share(NamedTuple):
    """A run's part of something done for several. ``weight``: an integer of at least 1, as rows."""

    run: JobRun
    weight: int = 1


class DeviceMeter:
    """Adds what the device does to ``JobRun.gpu_ns`` of the runs it is done for.

    In whole nanoseconds, so that what the runs have add up to ``busy_ns`` exactly. Used on the
    engine's thread alone.

    Args:
        monotonic: seconds.

    Attributes:
        busy_ns: how long the device was busy, for whomever.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self.busy_ns = 0

    @contextmanager
    def charging(self, shares: Sequence[Share]) -> Iterator[None]:
        """Charge what the block takes, also where it raises. Blocks must not lie in each other."""
        began = self.now()
        try:
            yield
        finally:
            self.charge(self.now() - began, shares)

    def now(self) -> int:
        """Nanoseconds, to measure by."""
        return round(self._monotonic() * 1e9)

    def charge(self, spent: int, shares: Sequence[Share]) -> None:
        """Charge nanoseconds to the runs, by their weights; ``shares`` are not empty."""
        self.busy_ns += spent
        parts = split(spent, [share.weight for share in shares])
        for share, part in zip(shares, parts, strict=True):
            share.run.gpu_ns += part


def split(total: int, weights: Sequence[int]) -> list[int]:
    """``total`` in parts like the weights, each less than 1 off, whose sum is ``total``."""
    whole = sum(weights)
    marks = [total * upto // whole for upto in accumulate(weights, initial=0)]
    return [end - start for start, end in pairwise(marks)]
