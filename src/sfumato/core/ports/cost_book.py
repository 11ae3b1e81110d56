"""What was spent, told in totals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sfumato.core.charges import CostGroup, CostTotal


class CostBook(Protocol):
    """Reads what a ``JobStore`` wrote down as attempts ended. That outlives the jobs themselves, and
    no later price changes it."""

    async def totals(
        self,
        *,
        by: Sequence[CostGroup],
        since: float,
        until: float,
        owner: str | None = None,
    ) -> Sequence[CostTotal]:
        """One for each combination of the groups, and of currencies, that has anything; ordered by
        the groups as they are given, what has none first.

        Args:
            since, until: when the attempts ended; ``until`` itself no longer counts.
            owner: of whose key; None: everybody's.
        """
        ...
