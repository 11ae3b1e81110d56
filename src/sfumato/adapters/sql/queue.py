"""The doorbell in SQL: one row a job, hidden while somebody has it.

It survives any crash of a process, but its writes do not wait for the disk: the jobs are the
truth, and what a power cut takes back of their rings, recovery rings again at the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, func, not_, select

from sfumato.adapters.sql.database import Database
from sfumato.adapters.sql.dialects import Insert
from sfumato.adapters.sql.rows import ring_of
from sfumato.adapters.sql.schema import rings
from sfumato.core.errors import Unavailable
from sfumato.core.ports import MAX_DELIVERIES, Clock, QueueDepth, QueueTraits, Ring

#: Longest wait before a receiver looks for rings whose time has come, in seconds.
_LONGEST_WAIT = 30.0
#: Visible by every clock, however far it is behind.
_AT_ONCE = 0.0

# Statements are built once: to build one costs more than to run it.
_OURS = (rings.c.job_id == bindparam("ours"), rings.c.receipt == bindparam("receipt_held"))
_ACK = rings.delete().where(*_OURS)
_HIDE = rings.update().where(*_OURS).values(visible_at=bindparam("until"))
_RELEASE = _HIDE.values(receipt=None)

_ALIVE = rings.c.deliveries < bindparam("most")
_THEIRS = and_(rings.c.runtime.in_(bindparam("runtimes", expanding=True)), _ALIVE)
_READY = (_THEIRS, rings.c.visible_at <= bindparam("now"))
_ANY_READY = select(rings.c.seq).where(*_READY).limit(1)
_FIRST_VISIBLE = select(func.min(rings.c.visible_at)).where(_THEIRS)
#: Receivers skip the rows that others are about to take, where rows are locked at all.
_NEXT = (
    select(rings.c.seq)
    .where(*_READY)
    .order_by(rings.c.rank, rings.c.seq)
    .limit(1)
    .with_for_update(skip_locked=True)
)
_TAKE = (
    rings.update()
    .where(rings.c.seq == _NEXT.scalar_subquery())
    .values(
        receipt=bindparam("new_receipt"),
        deliveries=rings.c.deliveries + 1,
        visible_at=bindparam("until"),
    )
    .returning(*rings.c)
)
_OF_ONE = rings.c.runtime == bindparam("one_runtime")
_HIDDEN = rings.c.visible_at > bindparam("now")
_DEPTH = select(
    func.count().filter(not_(_HIDDEN), _ALIVE),
    func.count().filter(_HIDDEN),
    func.count().filter(not_(_HIDDEN), not_(_ALIVE)),
).where(_OF_ONE)
_REDRIVE = (
    rings.update().where(_OF_ONE, not_(_HIDDEN), not_(_ALIVE)).values(deliveries=0, receipt=None)
)


def _replacing(statement: Insert) -> Insert:
    """Rung again, a ring keeps its place in the queue."""
    fresh = {
        column.name: column for column in statement.excluded if column.name not in ("seq", "job_id")
    }
    return statement.on_conflict_do_update(index_elements=[rings.c.job_id], set_=fresh)


class SqlDelivery:
    """The ``Delivery`` port. Its receipt is good until the ring changes hands."""

    def __init__(self, database: Database, clock: Clock, row: Row[Any]) -> None:
        self._database = database
        self._clock = clock
        self._held = {"ours": row.job_id, "receipt_held": row.receipt}
        self.ring = ring_of(row)
        self.deliveries: int = row.deliveries

    async def ack(self) -> None:
        await self._database.write(lambda c: c.execute(_ACK, self._held), durable=False)

    async def extend(self, seconds: float) -> bool:
        values = {**self._held, "until": self._clock.now() + seconds}
        hidden = await self._database.write(
            lambda c: c.execute(_HIDE, values).rowcount, durable=False
        )
        return hidden == 1

    async def release(self, *, delay: float = 0.0) -> None:
        until = self._clock.now() + delay if delay else _AT_ONCE
        values = {**self._held, "until": until}
        await self._database.write(lambda c: c.execute(_RELEASE, values), durable=False)


class SqlJobQueue:
    """The ``JobQueue`` port on the table ``rings``."""

    traits = QueueTraits()

    def __init__(
        self, database: Database, clock: Clock, *, max_deliveries: int = MAX_DELIVERIES
    ) -> None:
        self._database = database
        self._clock = clock
        self._most = max_deliveries
        self._ring = _replacing(database.insert(rings))

    async def ring(self, ring: Ring, *, delay: float = 0.0) -> None:
        values = {
            "job_id": ring.job_id,
            "runtime": ring.runtime,
            "rank": -ring.priority,
            "attempt": ring.attempt,
            "traceparent": ring.traceparent,
            "visible_at": self._clock.now() + delay if delay else _AT_ONCE,
            "receipt": None,
            "deliveries": 0,
        }
        await self._database.write(lambda c: c.execute(self._ring, values), durable=False)

    async def receive(
        self, runtimes: Sequence[str], *, visibility: float, timeout: float
    ) -> SqlDelivery | None:
        deadline = self._clock.monotonic() + timeout
        with self._database.signals.subscribe() as changed:
            delivery = await self._take(runtimes, visibility)
            while delivery is None:
                # To look is cheap; to take needs the lock that all writers share.
                due = await self._database.read(lambda c: self._due(c, runtimes))
                if due is not None and due <= 0.0:
                    delivery = await self._take(runtimes, visibility)
                    continue
                left = deadline - self._clock.monotonic()
                if left <= 0:
                    return None
                wait = _LONGEST_WAIT if due is None else max(0.001, due)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(left, wait, _LONGEST_WAIT)):
                        await changed.wait()
                changed.clear()
        return delivery

    async def depth(self, runtime: str) -> QueueDepth:
        values = {"now": self._clock.now(), "one_runtime": runtime, "most": self._most}
        return QueueDepth(*await self._database.read(lambda c: c.execute(_DEPTH, values).one()))

    async def redrive(self, runtime: str) -> int:
        values = {"now": self._clock.now(), "one_runtime": runtime, "most": self._most}
        return await self._database.write(lambda c: c.execute(_REDRIVE, values).rowcount)

    async def close(self) -> None:
        """The database is closed by whoever opened it."""

    def _due(self, connection: Connection, runtimes: Sequence[str]) -> float | None:
        """Seconds until the next ring may be taken, 0 if one may be now; None when there is none."""
        now = self._clock.now()
        values = {"runtimes": list(runtimes), "now": now, "most": self._most}
        if connection.scalar(_ANY_READY, values) is not None:
            return 0.0
        first: float | None = connection.scalar(_FIRST_VISIBLE, values)
        return None if first is None else first - now

    async def _take(self, runtimes: Sequence[str], visibility: float) -> SqlDelivery | None:
        now = self._clock.now()
        values = {
            "runtimes": list(runtimes),
            "now": now,
            "most": self._most,
            "until": now + visibility,
            "new_receipt": secrets.token_hex(16),
        }
        taking = asyncio.ensure_future(
            self._database.write(lambda c: c.execute(_TAKE, values).one_or_none(), durable=False)
        )
        try:
            row = await asyncio.shield(taking)
        except asyncio.CancelledError:
            # The writer may have it in hand already. A receiver that goes must not leave its ring
            # hidden for the length of a visibility, so this waits for the answer first.
            # Should that fail the cancellation goes first: its visibility ends some time.
            with contextlib.suppress(Unavailable):
                row = await taking
                if row is not None:
                    await SqlDelivery(self._database, self._clock, row).release()
            raise
        return SqlDelivery(self._database, self._clock, row) if row is not None else None
