"""What was spent, told to whoever may know it."""

from __future__ import annotations

from collections.abc import Sequence

from sfumato.core.charges import CostGroup, CostTotal
from sfumato.core.errors import InvalidRequest
from sfumato.core.keys import Caller, Scope
from sfumato.core.ports import ApiKeys, CostBook


class Costs:
    """Totals of the book of costs: a caller's own, or everybody's for who may see all jobs."""

    def __init__(self, *, book: CostBook, keys: ApiKeys) -> None:
        self._book = book
        self._keys = keys

    async def totals(
        self, caller: Caller, *, by: Sequence[CostGroup], since: float, until: float
    ) -> Sequence[CostTotal]:
        """Args: as of :meth:`~sfumato.core.ports.CostBook.totals`.

        Raises:
            Forbidden: the caller may not even see its own jobs.
            InvalidRequest: the time ends before it begins.
        """
        if since >= until:
            raise InvalidRequest(
                "The time asked for ends before it begins.",
                field="until",
                accepted="a time after since",
            )
        owner = None
        if not caller.may(Scope.READ_ALL):
            caller.check(Scope.READ_OWN)
            owner = caller.id
        groups = list(dict.fromkeys(by))
        return await self._book.totals(by=groups, since=since, until=until, owner=owner)

    async def names(self) -> dict[str, str]:
        """What people call each key, by its id."""
        return {key.id: key.name for key in await self._keys.list()}
