"""Answers that many ask for, and that are found out once for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, NamedTuple, TypeVar

from sfumato.core.ports import Clock

T = TypeVar("T")


class Asked(NamedTuple, Generic[T]):
    """A question on its way, or its answer. ``at``: monotonic seconds when it was asked."""

    at: float
    answer: asyncio.Task[T]


class SharedAnswers(Generic[T]):
    """Asks at most once in ``max_age`` seconds a name, however many want to know.

    A failure is an answer as well. Whoever waits must not cancel the task: it belongs to all
    (``asyncio.shield``, ``asyncio.wait``).

    Args:
        ask: finds the answer for a name.
    """

    def __init__(
        self, ask: Callable[[str], Coroutine[Any, Any, T]], *, clock: Clock, max_age: float
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._max_age = max_age
        self._asked: dict[str, Asked[T]] = {}

    def of(self, name: str) -> Asked[T]:
        """The last answer if it is young enough; else one that is being found."""
        now = self._clock.monotonic()
        last = self._asked.get(name)
        if last is None or now - last.at > self._max_age:
            task = asyncio.create_task(self._ask(name), name=f"asking-for-{name}")
            last = self._asked[name] = Asked(now, task)
        return last
