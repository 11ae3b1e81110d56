"""A clock that jumps when told to, as a machine's does when its time is set."""

from __future__ import annotations

import time
from pathlib import Path


class JumpingClock:
    """The machine's clock, off by the seconds in a file that :func:`set_offset` writes.

    Only the time of day jumps; the monotonic clock of a machine never does.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def now(self) -> float:
        return time.time() + float(self._file.read_text())

    def monotonic(self) -> float:
        return time.monotonic()


def set_offset(file: Path, seconds: float) -> None:
    fresh = file.with_suffix(".new")
    fresh.write_text(f"{seconds}\n")
    fresh.replace(file)
