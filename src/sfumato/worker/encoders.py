"""Threads that encode pictures, so that the next step begins while the last ones are encoded."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait

#: Few: they take their cores from the network's next step.
_THREADS = 2


class Encoders:
    """Runs tasks that report for themselves and raise nothing, each on behalf of an owner."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="encoder")
        self._under_way: dict[Future[None], Hashable] = {}

    def submit(self, owner: Hashable, task: Callable[[], None]) -> None:
        self._under_way = {
            future: other for future, other in self._under_way.items() if not future.done()
        }
        self._under_way[self._pool.submit(task)] = owner

    def wait(self, owner: Hashable) -> None:
        """Returns once nothing of an owner is under way."""
        wait([future for future, other in self._under_way.items() if other is owner])

    def close(self) -> None:
        """Returns once nothing at all is."""
        self._pool.shutdown()
