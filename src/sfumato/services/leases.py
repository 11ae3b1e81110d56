"""Which workers are silent, whatever the clocks say."""

from __future__ import annotations

from collections.abc import Sequence

from sfumato.core.ports import Lease


class LeaseWatch:
    """Finds the leases that nobody renews.

    A lease's ``until`` is a time of its worker's clock, which may be wrong, as ours may be, and
    both may jump. So it is compared with no time at all: a lease has run out when it was watched
    for its length and stayed the same. Between two looks that lie far apart the store was away,
    perhaps for the worker too, and at most half a lease counts.

    Args:
        length: of every lease, in seconds; looks should come at a third of it.
    """

    def __init__(self, length: float) -> None:
        self._length = length
        self._looked_at = 0.0
        self._watched: dict[Lease, float] = {}

    def run_out(self, leases: Sequence[Lease], *, now: float) -> list[Lease]:
        """Those of all leases that have run out. ``now``: monotonic seconds."""
        passed = min(now - self._looked_at, self._length / 2)
        self._looked_at = now
        before = self._watched
        self._watched = {
            lease: before[lease] + passed if lease in before else 0.0 for lease in leases
        }
        return [lease for lease, seconds in self._watched.items() if seconds >= self._length]
