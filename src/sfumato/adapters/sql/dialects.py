"""What differs between databases, and nowhere else: connections, locks, errors, wake-ups."""

from __future__ import annotations

import sqlite3
import time
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import QueuePool

from sfumato.core.errors import StartupRefused, StorageFull, StoreBusy, Unavailable

#: Seconds for which a writer waits for another process's transaction.
BUSY_SECONDS = 5.0

#: ``INSERT … ON CONFLICT``, which both databases spell alike.
insert = sqlite.insert
Insert = sqlite.Insert


class SqliteDialect:
    """SQLite in WAL mode: readers never wait, writers wait for each other.

    Args:
        url: ``sqlite:///path``.

    Raises:
        StartupRefused: another scheme, or no path.
    """

    def __init__(self, url: str) -> None:
        self.url = _parse(url)

    def engine(self, *, writer: bool) -> Engine:
        """An engine for the one writing thread, or for the readers."""
        engine = create_engine(
            self.url,
            poolclass=QueuePool,
            pool_size=1 if writer else 4,
            max_overflow=0,
            # Errors quote parameters, and prompts are private.
            hide_parameters=True,
            connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
        )
        # pysqlite would begin transactions of its own accord; ours begin where we say, and a
        # writer's takes the lock at once, so that it can't fail half-way for want of it.
        begin = "BEGIN IMMEDIATE" if writer else "BEGIN"

        def connected(connection: sqlite3.Connection, _record: object) -> None:
            connection.isolation_level = None
            connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
            _use_wal(connection)
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")

        event.listen(engine, "connect", connected)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
        return engine

    def set_durability(self, connection: sqlite3.Connection, *, durable: bool) -> None:
        """Whether the next commits wait for the disk. Without, a power cut may take them, but
        never a crash of the process; the database stays whole either way."""
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")

    def change_counter(self) -> ChangeCounter:
        return ChangeCounter(self.url)

    def translate(self, error: DBAPIError) -> Unavailable:
        """A driver's error as one of ours."""
        if self.is_busy(error):
            return StoreBusy(
                f"The database was locked by another process for more than {BUSY_SECONDS:g} s. "
                "Nothing was changed and nothing was lost; try again."
            )
        if self.is_full(error):
            return StorageFull(
                "The disk that holds the database is full. Nothing was changed; what was "
                "accepted before is kept. Free some space and try again."
            )
        return Unavailable(f"The database does not answer ({error.orig}). Nothing was changed.")

    def is_busy(self, error: DBAPIError) -> bool:
        """Another process holds the lock."""
        return _code(error) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

    def is_full(self, error: DBAPIError) -> bool:
        """No space is left, for the file itself or for what SQLite writes beside it."""
        code = _code(error)
        return code & 0xFF == sqlite3.SQLITE_FULL or code in (
            sqlite3.SQLITE_IOERR_WRITE,
            sqlite3.SQLITE_IOERR_SHMSIZE,
        )


class ChangeCounter:
    """Tells that any connection, of any process, has committed; costs microseconds."""

    def __init__(self, url: URL) -> None:
        assert url.database is not None  # noqa: S101 - checked when the URL was parsed
        self._connection = sqlite3.connect(url.database, check_same_thread=False)

    def read(self) -> int:
        """A number that differs once something was committed."""
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return int(version)

    def close(self) -> None:
        self._connection.close()


def lock_rows(statement: Any) -> Any:
    """Let concurrent receivers skip each other's rows, where rows are locked at all."""
    return statement


def has_table(connection: Connection, name: str) -> bool:
    return connection.dialect.has_table(connection, name)


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    # A database in memory would be another one for each connection.
    if (
        parsed is None
        or parsed.get_backend_name() != "sqlite"
        or parsed.database in (None, "", ":memory:")
    ):
        raise StartupRefused(
            "The database URL is not one that this version can use.",
            field="database_url",
            accepted="sqlite:///path/to/file.db",
        )
    return parsed


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
