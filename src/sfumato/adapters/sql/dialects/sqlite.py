"""SQLite in WAL mode, the embedded default."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from sfumato.adapters.sql.dialects.base import reason_of
from sfumato.adapters.sql.dialects.polling import PolledSignals
from sfumato.core.errors import StorageFull, StoreBusy, Unavailable

if TYPE_CHECKING:
    from sfumato.adapters.sql.database import Database

#: Seconds for which a writer waits for another process's transaction.
BUSY_SECONDS = 5.0


class SqliteDialect:
    """The ``Dialect`` of SQLite: readers never wait, writers wait for each other.

    Args:
        url: ``sqlite:///path``.
    """

    def __init__(self, url: URL) -> None:
        self.url = url
        self._durable: bool | None = None

    def engine(self, *, writer: bool) -> Engine:
        engine = create_engine(
            self.url,
            poolclass=QueuePool,
            pool_size=1 if writer else 4,
            max_overflow=0,
            # A reader's statements need no transaction around them, so there is nothing to reset.
            pool_reset_on_return="rollback" if writer else None,
            # Errors quote parameters, and prompts are private.
            hide_parameters=True,
            connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
        )

        def connected(connection: sqlite3.Connection, _record: object) -> None:
            # pysqlite would begin transactions of its own accord.
            connection.isolation_level = None
            connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
            _use_wal(connection)
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")

        event.listen(engine, "connect", connected)
        if writer:
            event.listen(engine, "begin", _begin)
        return engine

    @contextlib.contextmanager
    def transaction(self, connection: Connection, *, durable: bool) -> Iterator[None]:
        if durable is not self._durable:  # which outlasts the transaction
            driver = connection.connection.driver_connection
            assert driver is not None  # noqa: S101 - the pool has just connected it
            driver.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._durable = durable
        with connection.begin():
            yield

    def insert(self, table: Table) -> sqlite.Insert:
        return sqlite.insert(table)

    def lock_schema(self, connection: Connection) -> None:
        """A writer's transaction has locked the whole database."""

    def finish_schema(self, connection: Connection) -> None:
        """The tables are all."""

    def signals(self, database: Database) -> PolledSignals:
        assert self.url.database is not None  # noqa: S101 - checked when the URL was parsed
        return PolledSignals(database, ChangeCounter(self.url.database))

    def translate(self, error: DBAPIError) -> Unavailable:
        if _is_busy(error):
            return StoreBusy(
                f"The database was locked by another process for more than {BUSY_SECONDS:g} s. "
                "Nothing was changed and nothing was lost; try again."
            )
        if _is_full(error):
            return StorageFull(
                "The disk that holds the database is full. Nothing was changed; what was "
                "accepted before is kept. Free some space and try again."
            )
        return Unavailable(
            f"The database does not answer ({reason_of(error)}). Nothing was changed."
        )

    def concerns_all(self, error: DBAPIError) -> bool:
        return _is_busy(error) or _is_full(error)

    def may_pass(self, error: DBAPIError) -> bool:  # noqa: ARG002 - one writer has no rivals
        return False


def _begin(connection: Connection) -> None:
    """The lock is taken at once, so that a writer can't fail half-way for want of it."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


class ChangeCounter:
    """Tells that any connection, of any process, has committed; costs microseconds."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, check_same_thread=False)

    def read(self) -> int:
        """A number that differs once something was committed."""
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return int(version)

    def close(self) -> None:
        self._connection.close()


def _is_busy(error: DBAPIError) -> bool:
    """Another process holds the lock."""
    return _code(error) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _is_full(error: DBAPIError) -> bool:
    """No space is left, for the file itself or for what SQLite writes beside it."""
    code = _code(error)
    return code & 0xFF == sqlite3.SQLITE_FULL or code in (
        sqlite3.SQLITE_IOERR_WRITE,
        sqlite3.SQLITE_IOERR_SHMSIZE,
    )


def _code(error: DBAPIError) -> int:
    """SQLite's extended result code; 0 when the error did not come from SQLite itself."""
    code = getattr(error.orig, "sqlite_errorcode", 0)
    return code if isinstance(code, int) else 0


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging; two processes that do so at once must both succeed, and the
    busy time-out does not cover this one statement."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return
