"""Worker tokens in SQL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select

from sfumato.adapters.sql.database import Database
from sfumato.adapters.sql.schema import worker_tokens as tokens
from sfumato.core.errors import NotFound
from sfumato.core.ports import WorkerToken

_OF_DIGEST = select(tokens).where(tokens.c.digest == bindparam("wanted"))
_OF_ID = select(tokens).where(tokens.c.id == bindparam("wanted"))
_ALL = select(tokens).order_by(tokens.c.created_at, tokens.c.id)
_USED = tokens.update().where(tokens.c.id == bindparam("wanted")).values(used_at=bindparam("now"))
_REVOKE = (
    tokens.update()
    .where(tokens.c.id == bindparam("wanted"), tokens.c.revoked_at.is_(None))
    .values(revoked_at=bindparam("now"))
)


class SqlWorkerTokens:
    """The ``WorkerTokens`` port."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, token: WorkerToken) -> None:
        await self._database.write(lambda c: c.execute(tokens.insert(), _values_of(token)))

    async def keep(self, token: WorkerToken) -> None:
        insert = self._database.insert(tokens)
        statement = insert.on_conflict_do_update(
            index_elements=["digest"], set_={"runtimes": insert.excluded.runtimes}
        )
        await self._database.write(lambda c: c.execute(statement, _values_of(token)))

    async def find(self, digest: str) -> WorkerToken | None:
        row = await self._database.read(
            lambda c: c.execute(_OF_DIGEST, {"wanted": digest}).one_or_none()
        )
        return None if row is None else _token_of(row)

    async def list(self) -> Sequence[WorkerToken]:
        rows = await self._database.read(lambda c: c.execute(_ALL).all())
        return [_token_of(row) for row in rows]

    async def revoke(self, token_id: str, *, now: float) -> WorkerToken:
        def work(connection: Connection) -> Row[Any]:
            connection.execute(_REVOKE, {"wanted": token_id, "now": now})
            row = connection.execute(_OF_ID, {"wanted": token_id}).one_or_none()
            if row is None:
                raise NotFound(f"There is no token {token_id!r}.")
            return row

        return _token_of(await self._database.write(work))

    async def note_use(self, token_id: str, *, now: float) -> None:
        values = {"wanted": token_id, "now": now}
        await self._database.write(lambda c: c.execute(_USED, values), durable=False)


def _values_of(token: WorkerToken) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "digest": token.digest,
        "runtimes": json.dumps(token.runtimes),
        "created_at": token.created_at,
        "expires_at": token.expires_at,
    }


def _token_of(row: Row[Any]) -> WorkerToken:
    return WorkerToken(
        id=row.id,
        name=row.name,
        digest=row.digest,
        runtimes=tuple(json.loads(row.runtimes)),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        used_at=row.used_at,
    )
