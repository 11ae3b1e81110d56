"""How many rows a step may have, as running out of memory has taught."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

#: Steps at the cap without a failure, after which two rows more are tried.
_PATIENCE = 32
#: The same where the next try is a size that has failed before.
_PATIENCE_AFTER_FAILURE = 1024


@dataclass(slots=True)
class _Cap:
    rows: int
    failed_at: int
    successes: int = 0


class RowCaps:
    """The engine's own row limits, lowered where a step has not fit.

    Args:
        believed: rows that a step of a key may have, for all that the engine knows.
    """

    def __init__(self, believed: Callable[[Hashable], int]) -> None:
        self._believed = believed
        self._caps: dict[Hashable, _Cap] = {}

    def limit(self, key: Hashable) -> int:
        cap, believed = self._caps.get(key), self._believed(key)
        return believed if cap is None else min(believed, cap.rows)

    def failed(self, key: Hashable, rows: int) -> None:
        """A step of so many rows ran out of memory: half as many from now on."""
        self._caps[key] = _Cap(max(1, rows // 2), failed_at=rows)

    def succeeded(self, key: Hashable, rows: int) -> None:
        """A step was taken. Memory that lacked may be there again: the cap rises slowly."""
        cap = self._caps.get(key)
        if cap is None or rows < cap.rows - 1:
            return
        cap.successes += 1
        near = cap.rows + 2 >= cap.failed_at
        if cap.successes >= (_PATIENCE_AFTER_FAILURE if near else _PATIENCE):
            cap.rows += 2
            cap.successes = 0
