"""What a start on PostgreSQL refuses, and two that start at once."""

from __future__ import annotations

import asyncio
import sys
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from sfumato.adapters.sql import Database
from sfumato.core.errors import SchemaTooNew, StartupRefused

OPEN = "import sys; from sfumato.adapters.sql import Database; Database.check(sys.argv[1])"


def changed(url: str, **parts: str) -> str:
    return urlunsplit(urlsplit(url)._replace(**parts))


def test_a_missing_database_is_named(fresh_postgres_url: str) -> None:
    with pytest.raises(StartupRefused, match="does_not_exist_here") as caught:
        Database.open(changed(fresh_postgres_url, path="/does_not_exist_here"))
    assert caught.value.field == "database_url"


def test_no_server_is_said_without_the_password(fresh_postgres_url: str) -> None:
    url = changed(fresh_postgres_url, netloc="someone:my-secret@127.0.0.1:1")
    with pytest.raises(StartupRefused, match="SFUMATO_DATABASE_URL") as caught:
        Database.open(url)
    assert "my-secret" not in str(caught.value)


def test_a_role_that_is_refused_is_said_without_the_password(fresh_postgres_url: str) -> None:
    host = urlsplit(fresh_postgres_url).netloc.rpartition("@")[2]
    url = changed(fresh_postgres_url, netloc=f"nobody-of-that-name:my-secret@{host}")
    with pytest.raises(StartupRefused, match="nobody-of-that-name") as caught:
        Database.open(url)
    assert "my-secret" not in str(caught.value)


def test_the_short_scheme_is_understood(fresh_postgres_url: str) -> None:
    Database.check(fresh_postgres_url.replace("postgresql://", "postgres://", 1))


def test_a_schema_of_a_later_version_is_left_alone(fresh_postgres_url: str) -> None:
    Database.check(fresh_postgres_url)
    with psycopg.connect(fresh_postgres_url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaTooNew, match="9999"):
        Database.open(fresh_postgres_url)


async def test_processes_that_start_at_once_make_the_schema_once(fresh_postgres_url: str) -> None:
    starting = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", OPEN, fresh_postgres_url, stderr=asyncio.subprocess.PIPE
        )
        for _ in range(3)
    ]
    errors = [(await process.communicate())[1].decode() for process in starting]
    assert [process.returncode for process in starting] == [0, 0, 0], errors
