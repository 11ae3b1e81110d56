"""The doorbell in SQL: one row a job, hidden while somebody has it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, func, select, update

from sfumato.adapters.sql.database import Database
from sfumato.adapters.sql.dialects import insert, lock_rows
from sfumato.adapters.sql.rows import ring_of
from sfumato.adapters.sql.schema import rings
from sfumato.core.ports import Clock, QueueDepth, Ring

#: Longest wait before a receiver looks for rings whose time has come, in seconds.
_LONGEST_WAIT = 30.0


class SqlDelivery:
    """The ``Delivery`` port. Its receipt is good until the ring changes hands."""

    def __init__(
        self, database: Database, clock: Clock, ring: Ring, receipt: str, deliveries: int
    ) -> None:
        self._database = database
        self._clock = clock
        self._receipt = receipt
        self.ring = ring
        self.deliveries = deliveries

    async def ack(self) -> None:
        statement = rings.delete().where(self._is_ours())
        await self._database.write(lambda connection: connection.execute(statement))

    async def extend(self, seconds: float) -> bool:
        return await self._hide(seconds)

    async def release(self, *, delay: float = 0.0) -> None:
        await self._hide(delay)

    async def _hide(self, seconds: float) -> bool:
        statement = (
            update(rings).where(self._is_ours()).values(visible_at=self._clock.now() + seconds)
        )
        changed = await self._database.write(lambda c: c.execute(statement).rowcount)
        return changed == 1

    def _is_ours(self) -> ColumnElement[bool]:
        return (rings.c.job_id == self.ring.job_id) & (rings.c.receipt == self._receipt)


class SqlJobQueue:
    """The ``JobQueue`` port on the table ``rings``."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def ring(self, ring: Ring, *, delay: float = 0.0) -> None:
        values = {
            "job_id": ring.job_id,
            "runtime": ring.runtime,
            "rank": -ring.priority,
            "attempt": ring.attempt,
            "traceparent": ring.traceparent,
            "visible_at": self._clock.now() + delay,
            "receipt": None,
            "deliveries": 0,
        }
        # Rung again, a ring keeps its place in the queue.
        changes = {key: value for key, value in values.items() if key != "job_id"}
        statement = (
            insert(rings)
            .values(values)
            .on_conflict_do_update(index_elements=[rings.c.job_id], set_=changes)
        )
        await self._database.write(lambda connection: connection.execute(statement))

    async def receive(
        self, runtimes: Sequence[str], *, visibility: float, timeout: float
    ) -> SqlDelivery | None:
        deadline = self._clock.monotonic() + timeout
        with self._database.wakeups.subscribe() as changed:
            while True:
                changed.clear()
                due = await self._database.read(lambda c: self._due(c, runtimes))
                if due is not None and due <= 0.0:
                    delivery = await self._take(runtimes, visibility)
                    if delivery is not None:
                        return delivery
                left = deadline - self._clock.monotonic()
                if left <= 0:
                    return None
                wait = _LONGEST_WAIT if due is None else max(0.001, due)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(left, wait, _LONGEST_WAIT)):
                        await changed.wait()

    async def depth(self, runtime: str) -> QueueDepth:
        now = self._clock.now()
        ready = func.count().filter(rings.c.visible_at <= now)
        statement = select(ready, func.count()).where(rings.c.runtime == runtime)
        visible, total = await self._database.read(lambda c: c.execute(statement).one())
        return QueueDepth(ready=visible, hidden=total - visible)

    async def close(self) -> None:
        """The database is closed by whoever opened it."""

    def _due(self, connection: Connection, runtimes: Sequence[str]) -> float | None:
        """Seconds until the next ring may be taken, 0 if one may be now; None when there is none."""
        now, theirs = self._clock.now(), rings.c.runtime.in_(runtimes)
        ready = select(rings.c.seq).where(theirs, rings.c.visible_at <= now).limit(1)
        if connection.scalar(ready) is not None:
            return 0.0
        first: float | None = connection.scalar(select(func.min(rings.c.visible_at)).where(theirs))
        return None if first is None else first - now

    async def _take(self, runtimes: Sequence[str], visibility: float) -> SqlDelivery | None:
        now, receipt = self._clock.now(), secrets.token_hex(16)
        first = lock_rows(
            select(rings.c.seq)
            .where(rings.c.runtime.in_(runtimes), rings.c.visible_at <= now)
            .order_by(rings.c.rank, rings.c.seq)
            .limit(1)
        )
        statement = (
            update(rings)
            .where(rings.c.seq == first.scalar_subquery())
            .values(
                receipt=receipt,
                deliveries=rings.c.deliveries + 1,
                visible_at=now + visibility,
            )
            .returning(*rings.c)
        )
        row = await self._database.write(lambda c: c.execute(statement).one_or_none())
        if row is None:
            return None
        return SqlDelivery(self._database, self._clock, ring_of(row), receipt, row.deliveries)
