"""What differs between databases, and nowhere else."""

from __future__ import annotations

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from sfumato.adapters.sql.dialects.base import Dialect, Insert, Signals, reason_of
from sfumato.core.errors import StartupRefused

__all__ = ["Dialect", "Insert", "Signals", "dialect_for", "reason_of"]

_ACCEPTED = "sqlite:///path/to/file.db or postgresql://user:password@host/database"


def dialect_for(url: str) -> Dialect:
    """The dialect of a database URL.

    Raises:
        StartupRefused: no such scheme, no path or name, or the driver is not installed.
    """
    try:
        # Heroku and others still hand out the short form.
        parsed = make_url(url.replace("postgres://", "postgresql://", 1))
    except ArgumentError:
        raise _refused() from None
    match parsed.get_backend_name():
        case "sqlite":
            return _sqlite(parsed)
        case "postgresql":
            return _postgresql(parsed)
        case _:
            raise _refused()


def _sqlite(url: URL) -> Dialect:
    from sfumato.adapters.sql.dialects.sqlite import SqliteDialect  # noqa: PLC0415

    # A database in memory would be another one for each connection.
    if url.database in (None, "", ":memory:"):
        raise _refused()
    return SqliteDialect(url)


def _postgresql(url: URL) -> Dialect:
    try:
        from sfumato.adapters.sql.dialects.postgresql import PostgresDialect  # noqa: PLC0415
    except ImportError:
        raise StartupRefused(
            "PostgreSQL needs a driver that is not installed: pip install 'sfumato[postgres]'.",
            field="database_url",
        ) from None
    return PostgresDialect(url)


def _refused() -> StartupRefused:
    return StartupRefused(
        "The database URL is not one that this version can use.",
        field="database_url",
        accepted=_ACCEPTED,
    )
