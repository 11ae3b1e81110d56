"""PostgreSQL 14 and later, through psycopg 3."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import psycopg
from sqlalchemy import Connection, Engine, Table, create_engine
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from sfumato.adapters.sql.dialects.base import reason_of
from sfumato.adapters.sql.dialects.listening import EVENTS, RINGS, ListenedSignals
from sfumato.core.errors import StorageFull, StoreBusy, Unavailable

if TYPE_CHECKING:
    from sfumato.adapters.sql.database import Database

_READERS = 4
#: Seconds that a statement waits for another transaction's row.
_LOCK_SECONDS = 5
#: What says that a connection is gone, and not just what was asked of it: PostgreSQL's class 08,
#: and a server that is stopping, crashing or starting.
_GONE = ("08", "57P01", "57P02", "57P03")
_DEADLOCK, _SERIALIZATION, _UNIQUE = "40P01", "40001", "23505"
_LOCK_TIMEOUT = "55P03"
_DISK_FULL = ("53100", "53200")
#: Any number will do, as long as every process of ours uses the same.
_SCHEMA_LOCK = 7_305_413

#: A dead peer is noticed within seconds, whether something was sent or not.
_CONNECTING: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "application_name": "sfumato",
}

_TRIGGERS = f"""
CREATE OR REPLACE FUNCTION sfumato_tell_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('{EVENTS}', NEW.job_id || ' ' || NEW.kind);
  RETURN NULL;
END $$;
CREATE OR REPLACE FUNCTION sfumato_tell_ring() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('{RINGS}', NEW.runtime);
  RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER sfumato_tell_event AFTER INSERT ON events
  FOR EACH ROW EXECUTE FUNCTION sfumato_tell_event();
CREATE OR REPLACE TRIGGER sfumato_tell_ring AFTER INSERT OR UPDATE ON rings
  FOR EACH ROW WHEN (NEW.receipt IS NULL) EXECUTE FUNCTION sfumato_tell_ring();
"""


class PostgresDialect:
    """The ``Dialect`` of PostgreSQL: writers lock rows, and every commit tells those who listen.

    Args:
        url: ``postgresql://user:password@host:port/database``, with libpq's parameters behind
            ``?``.
    """

    def __init__(self, url: URL) -> None:
        self.url = url.set(drivername="postgresql")

    def engine(self, *, writer: bool) -> Engine:
        return create_engine(
            self.url.set(drivername="postgresql+psycopg"),
            pool_size=1 if writer else _READERS,
            max_overflow=0,
            # Errors quote parameters, and prompts are private.
            hide_parameters=True,
            connect_args={**_CONNECTING, **self._options()},
            # A reader's statements need no transaction around them.
            **({} if writer else {"isolation_level": "AUTOCOMMIT"}),
        )

    @contextlib.contextmanager
    def transaction(self, connection: Connection, *, durable: bool) -> Iterator[None]:
        transaction = connection.begin()
        try:
            if not durable:
                connection.exec_driver_sql("SET LOCAL synchronous_commit TO off")
            yield
        except BaseException:
            # Over a lost connection there is nothing to roll back, nor a way to.
            with contextlib.suppress(DBAPIError):
                transaction.rollback()
            raise
        try:
            transaction.commit()
        except DBAPIError as error:
            if not _is_gone(error):
                raise
            raise Unavailable(
                "The connection to the database was lost at the moment of the commit. Whether it "
                "was carried out is not known: look before you try again."
            ) from None

    def insert(self, table: Table) -> postgresql.Insert:
        return postgresql.insert(table)

    def lock_schema(self, connection: Connection) -> None:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_SCHEMA_LOCK})")

    def finish_schema(self, connection: Connection) -> None:
        connection.exec_driver_sql(_TRIGGERS)

    def signals(self, database: Database) -> ListenedSignals:  # noqa: ARG002 - the server tells
        arguments = self.url.translate_connect_args(database="dbname", username="user")
        return ListenedSignals({**_CONNECTING, **arguments, **self.url.query})

    def translate(self, error: DBAPIError) -> Unavailable:
        code = _code(error)
        if code == _LOCK_TIMEOUT:
            return StoreBusy(
                f"The database was locked by another process for more than {_LOCK_SECONDS} s. "
                "Nothing was changed and nothing was lost; try again."
            )
        if code in _DISK_FULL:
            return StorageFull(
                "The disk that holds the database is full. Nothing was changed; what was "
                "accepted before is kept. Free some space and try again."
            )
        return Unavailable(
            f"The database does not answer ({reason_of(error)}). Nothing was changed."
        )

    def concerns_all(self, error: DBAPIError) -> bool:
        return _is_gone(error) or _code(error) in (_LOCK_TIMEOUT, *_DISK_FULL)

    def may_pass(self, error: DBAPIError) -> bool:
        return _is_gone(error) or _code(error) in (_DEADLOCK, _SERIALIZATION, _UNIQUE)

    def _options(self) -> dict[str, str]:
        """Settings of the session, unless the URL brings its own."""
        if "options" in self.url.query:
            return {}
        return {"options": f"-c lock_timeout={_LOCK_SECONDS}s"}


def _code(error: DBAPIError) -> str:
    """PostgreSQL's SQLSTATE; empty when no server answered."""
    return getattr(error.orig, "sqlstate", None) or ""


def _is_gone(error: DBAPIError) -> bool:
    code = _code(error)
    unanswered = isinstance(error.orig, psycopg.OperationalError) and not code
    return error.connection_invalidated or unanswered or code.startswith(_GONE)
