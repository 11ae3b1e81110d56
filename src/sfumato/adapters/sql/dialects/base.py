"""What a dialect is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import Connection, Engine, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from sfumato.core.errors import Unavailable
from sfumato.core.ports import Change

if TYPE_CHECKING:
    from sfumato.adapters.sql.database import Database

#: ``INSERT … ON CONFLICT``, which both databases spell alike and SQLAlchemy once for each.
Insert = sqlite.Insert | postgresql.Insert


class Signals(Protocol):
    """How this process learns of changes, whichever process made them."""

    def subscribe(self) -> AbstractContextManager[asyncio.Event]:
        """An event that is set when a ring may have come; the waiter clears it, then looks, then
        waits. It may be set for nothing."""
        ...

    def changes(self) -> AsyncGenerator[frozenset[Change], None]:
        """As ``JobStore.changes``."""
        ...

    def committed(self) -> None:
        """Say that this process has committed; called from the writer's thread."""
        ...

    async def close(self) -> None: ...


class Dialect(Protocol):
    """One kind of database."""

    @property
    def url(self) -> URL: ...

    def engine(self, *, writer: bool) -> Engine:
        """An engine for the one writing thread, or for the readers."""
        ...

    def transaction(
        self, connection: Connection, *, durable: bool
    ) -> AbstractContextManager[object]:
        """A writer's transaction, which waits for the disk at its end if ``durable``. Without, a
        power cut may take it back, but never a crash of a process."""
        ...

    def insert(self, table: Table) -> Insert: ...

    def lock_schema(self, connection: Connection) -> None:
        """Until the transaction ends, let no other process change the schema."""
        ...

    def finish_schema(self, connection: Connection) -> None:
        """Add what the tables need beside themselves; may have been done before."""
        ...

    def signals(self, database: Database) -> Signals: ...

    def translate(self, error: DBAPIError) -> Unavailable:
        """A driver's error as one of ours."""
        ...

    def concerns_all(self, error: DBAPIError) -> bool:
        """Whether every other operation would fail just so now: to try each would only wait."""
        ...

    def may_pass(self, error: DBAPIError) -> bool:
        """Whether the very same transaction may succeed when it is tried again at once."""
        ...


def reason_of(error: DBAPIError) -> str:
    """The driver's own words on one line, without the rows that PostgreSQL quotes in its details."""
    diagnosis = getattr(error.orig, "diag", None)
    words = getattr(diagnosis, "message_primary", None) or str(error.orig)
    return " ".join(words.split()).rstrip(".")
