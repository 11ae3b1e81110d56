"""API keys in SQL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, Update, bindparam, select

from sfumato.adapters.sql.database import Database
from sfumato.adapters.sql.schema import api_keys as keys
from sfumato.core.errors import NotFound
from sfumato.core.keys import ApiKey, KeyLimits, Scope
from sfumato.core.webhooks import Webhook

_OF_DIGEST = select(keys).where(keys.c.digest == bindparam("wanted"))
_OF_ID = select(keys).where(keys.c.id == bindparam("wanted"))
_ALL = select(keys).order_by(keys.c.created_at, keys.c.id)
_USED = keys.update().where(keys.c.id == bindparam("wanted")).values(used_at=bindparam("now"))
_REVOKE = (
    keys.update()
    .where(keys.c.id == bindparam("wanted"), keys.c.revoked_at.is_(None))
    .values(revoked_at=bindparam("now"))
)
_REPLACE = (
    keys.update().where(keys.c.id == bindparam("wanted")).values(digest=bindparam("new_digest"))
)


class SqlApiKeys:
    """The ``ApiKeys`` port."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, key: ApiKey) -> None:
        await self._database.write(lambda c: c.execute(keys.insert(), _values_of(key)))

    async def keep(self, key: ApiKey) -> None:
        statement = self._database.insert(keys).on_conflict_do_nothing(index_elements=["digest"])
        await self._database.write(lambda c: c.execute(statement, _values_of(key)))

    async def find(self, digest: str) -> ApiKey | None:
        row = await self._database.read(
            lambda c: c.execute(_OF_DIGEST, {"wanted": digest}).one_or_none()
        )
        return None if row is None else _key_of(row)

    async def get(self, key_id: str) -> ApiKey:
        return _key_of(await self._database.read(lambda c: _row(c, key_id)))

    async def list(self) -> Sequence[ApiKey]:
        rows = await self._database.read(lambda c: c.execute(_ALL).all())
        return [_key_of(row) for row in rows]

    async def revoke(self, key_id: str, *, now: float) -> ApiKey:
        return await self._changed(key_id, _REVOKE, now=now)

    async def replace(self, key_id: str, *, digest: str) -> ApiKey:
        return await self._changed(key_id, _REPLACE, new_digest=digest)

    async def note_use(self, key_id: str, *, now: float) -> None:
        values = {"wanted": key_id, "now": now}
        await self._database.write(lambda c: c.execute(_USED, values), durable=False)

    async def _changed(self, key_id: str, statement: Update, **values: Any) -> ApiKey:
        def work(connection: Connection) -> Row[Any]:
            connection.execute(statement, {"wanted": key_id, **values})
            return _row(connection, key_id)

        return _key_of(await self._database.write(work))


def _row(connection: Connection, key_id: str) -> Row[Any]:
    row = connection.execute(_OF_ID, {"wanted": key_id}).one_or_none()
    if row is None:
        raise NotFound(f"There is no key {key_id!r}.")
    return row


def _values_of(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "digest": key.digest,
        "scopes": json.dumps(sorted(key.scopes)),
        "models": json.dumps(key.models),
        "runtimes": json.dumps(key.runtimes),
        "limits": json.dumps(asdict(key.limits)),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "webhook": None if key.webhook is None else json.dumps(key.webhook.as_dict()),
    }


def _key_of(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        name=row.name,
        digest=row.digest,
        scopes=frozenset(map(Scope, json.loads(row.scopes))),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        used_at=row.used_at,
        models=tuple(json.loads(row.models)),
        runtimes=tuple(json.loads(row.runtimes)),
        limits=KeyLimits(**json.loads(row.limits)),
        webhook=None if row.webhook is None else Webhook.from_dict(json.loads(row.webhook)),
    )
