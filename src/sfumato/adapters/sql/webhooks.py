"""Webhooks in SQL."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, exists, func, select

from sfumato.adapters.sql.database import Database
from sfumato.adapters.sql.schema import jobs, secrets, webhook_deliveries, webhooks
from sfumato.core.errors import NotFound
from sfumato.core.webhooks import (
    Telling,
    Webhook,
    WebhookDelivery,
    WebhookEvent,
    WebhookState,
)

_OF_JOB = select(webhooks).where(webhooks.c.job_id == bindparam("wanted"))
_REMOVE = webhooks.delete().where(webhooks.c.job_id == bindparam("wanted"))
_IS_OPEN = webhooks.c.state == WebhookState.OPEN.value
_DUE = (
    select(webhooks)
    .join(jobs, jobs.c.id == webhooks.c.job_id)
    .where(_IS_OPEN, webhooks.c.next_at <= bindparam("now"), jobs.c.last_event > webhooks.c.after)
    .order_by(webhooks.c.next_at)
    .limit(bindparam("at_most"))
)
_OPEN = (
    select(func.count())
    .select_from(webhooks)
    .join(jobs, jobs.c.id == webhooks.c.job_id)
    .where(_IS_OPEN, jobs.c.last_event > webhooks.c.after)
)
#: Guarded by when it was due: whoever comes second changes nothing.
_HOLD = (
    webhooks.update()
    .where(webhooks.c.job_id == bindparam("wanted"), webhooks.c.next_at == bindparam("was_due"))
    .values(next_at=bindparam("until"))
)
_NEXT = select(func.min(webhooks.c.next_at)).where(and_(_IS_OPEN, webhooks.c.next_at > 0))
_SAVE = (
    webhooks.update()
    .where(webhooks.c.job_id == bindparam("wanted"))
    .values({name: bindparam(f"new_{name}") for name in ("state", "after", "tries")})
    .values(failing_since=bindparam("new_failing_since"), next_at=bindparam("new_next_at"))
)
_DELIVERIES = (
    select(webhook_deliveries)
    .where(webhook_deliveries.c.job_id == bindparam("wanted"))
    .order_by(webhook_deliveries.c.seq.desc())
    .limit(bindparam("at_most"))
)
_NO_JOB = ~exists().where(jobs.c.id == webhooks.c.job_id)
_FORGET = webhooks.delete().where(webhooks.c.created_at < bindparam("before"), _NO_JOB)
_SECRET = select(secrets.c.value).where(secrets.c.name == "webhooks")


class SqlWebhookStore:
    """The ``WebhookStore`` port."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._new_secret = database.insert(secrets).on_conflict_do_nothing()

    async def add(self, telling: Telling) -> None:
        values = {
            "job_id": telling.job_id,
            "webhook": json.dumps(telling.webhook.as_dict()),
            "owner": telling.owner,
            "created_at": telling.created_at,
            "state": telling.state.value,
            "after": telling.after,
            "tries": telling.tries,
            "failing_since": telling.failing_since,
            "next_at": telling.next_at,
        }
        await self._database.write(lambda c: c.execute(webhooks.insert(), values))

    async def remove(self, job_id: str) -> None:
        await self._database.write(lambda c: c.execute(_REMOVE, {"wanted": job_id}))

    async def get(self, job_id: str) -> Telling:
        row = await self._database.read(
            lambda c: c.execute(_OF_JOB, {"wanted": job_id}).one_or_none()
        )
        if row is None:
            raise NotFound(f"Job {job_id!r} has no webhook.")
        return _telling_of(row)

    async def claim(self, *, now: float, until: float, limit: int = 20) -> Sequence[Telling]:
        values = {"now": now, "at_most": limit}
        due = await self._database.read(lambda c: c.execute(_DUE, values).all())
        if not due:
            return []

        def work(connection: Connection) -> list[Telling]:
            held = []
            for row in due:
                mine = {"wanted": row.job_id, "was_due": row.next_at, "until": until}
                if connection.execute(_HOLD, mine).rowcount == 1:
                    held.append(_telling_of(row, next_at=until))
            return held

        return await self._database.write(work, durable=False)

    async def open(self) -> int:
        return await self._database.read(lambda c: int(c.execute(_OPEN).scalar_one()))

    async def next_due(self) -> float | None:
        return await self._database.read(lambda c: c.scalar(_NEXT))

    async def save(self, telling: Telling, deliveries: Sequence[WebhookDelivery] = ()) -> None:
        values = {
            "wanted": telling.job_id,
            "new_state": telling.state.value,
            "new_after": telling.after,
            "new_tries": telling.tries,
            "new_failing_since": telling.failing_since,
            "new_next_at": telling.next_at,
        }
        tried = [
            {
                "job_id": delivery.job_id,
                "number": delivery.number,
                "event": delivery.event.value,
                "at": delivery.at,
                "status": delivery.status,
                "error": delivery.error,
            }
            for delivery in deliveries
        ]

        def work(connection: Connection) -> None:
            if connection.execute(_SAVE, values).rowcount and tried:
                connection.execute(webhook_deliveries.insert(), tried)

        await self._database.write(work)

    async def deliveries(self, job_id: str, *, limit: int = 100) -> Sequence[WebhookDelivery]:
        values = {"wanted": job_id, "at_most": limit}
        rows = await self._database.read(lambda c: c.execute(_DELIVERIES, values).all())
        return [
            WebhookDelivery(
                row.job_id, row.number, WebhookEvent(row.event), row.at, row.status, row.error
            )
            for row in rows
        ]

    async def forget(self, *, before: float) -> int:
        return await self._database.write(lambda c: c.execute(_FORGET, {"before": before}).rowcount)

    async def secret(self, fresh: bytes) -> bytes:
        values = {"name": "webhooks", "value": base64.b64encode(fresh).decode()}

        def work(connection: Connection) -> str:
            connection.execute(self._new_secret, values)
            return str(connection.execute(_SECRET).scalar_one())

        return base64.b64decode(await self._database.write(work))


def _telling_of(row: Row[Any], *, next_at: float | None = None) -> Telling:
    return Telling(
        job_id=row.job_id,
        webhook=Webhook.from_dict(json.loads(row.webhook)),
        owner=row.owner,
        created_at=row.created_at,
        state=WebhookState(row.state),
        after=row.after,
        tries=row.tries,
        failing_since=row.failing_since,
        next_at=row.next_at if next_at is None else next_at,
    )
