"""The schema at start: made once, whoever comes first, and never one this version can't read."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from sfumato.adapters.sql import Database, SqlCostBook, SqlJobStore
from sfumato.adapters.sql.migrate import HEAD
from sfumato.adapters.sql.schema import metadata
from sfumato.core.charges import CostGroup, CostTotal
from sfumato.core.errors import SchemaTooNew, StartupRefused
from tests.contract.jobs import new_job

OPEN = "import sys; from sfumato.adapters.sql import Database; Database.check(sys.argv[1])"
#: What came to ``jobs`` with the book of costs.
COSTS = ("cost", "currency")


def test_the_migrations_make_the_schema_that_the_code_uses(url: str) -> None:
    Database.check(url)
    engine = create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert context.get_current_revision() == HEAD
        assert compare_metadata(context, metadata) == []
    engine.dispose()


async def test_several_processes_may_start_at_once(url: str) -> None:
    processes = await asyncio.gather(
        *(asyncio.create_subprocess_exec(sys.executable, "-c", OPEN, url) for _ in range(4))
    )
    assert await asyncio.gather(*(process.wait() for process in processes)) == [0] * 4
    database = Database.open(url)
    await SqlJobStore(database).create(new_job())
    await database.close()


def test_a_schema_of_a_later_version_is_refused_and_left_alone(url: str, path: Path) -> None:
    Database.check(url)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaTooNew, match="9999"):
        Database.open(url)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [
            ("9999",)
        ]


@pytest.mark.parametrize(
    "url", ["", "nonsense", "sqlite://", "sqlite:///:memory:", "mysql://host/db"]
)
def test_a_url_that_names_no_usable_database_is_refused(url: str) -> None:
    with pytest.raises(StartupRefused) as caught:
        Database.open(url)
    assert caught.value.field == "database_url"


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupRefused, match="no-such-folder"):
        Database.open(f"sqlite:///{tmp_path}/no-such-folder/jobs.db")


def test_a_file_that_is_no_database_is_refused(url: str, path: Path) -> None:
    path.write_bytes(b"not a database, but quite long enough to be looked at" * 40)
    with pytest.raises(StartupRefused, match="not a database"):
        Database.open(url)


async def test_jobs_from_before_there_were_costs_are_in_the_book(url: str, path: Path) -> None:
    database = Database.open(url)
    store = SqlJobStore(database)
    jobs = [await store.create(replace(new_job(), owner="k1")) for _ in range(2)]
    await database.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0004'")
        for change in ("DROP TABLE charges", *(f"ALTER TABLE jobs DROP {c}" for c in COSTS)):
            connection.execute(change)
        connection.execute(
            "UPDATE jobs SET finished_at = 86400.5 * 20778, gpu_seconds = 2.5, attempt = 1,"
            " status = 'succeeded' WHERE id = ?",
            (jobs[0].id,),
        )
    database = Database.open(url)
    totals = await SqlCostBook(database).totals(
        by=[CostGroup.KEY, CostGroup.MODEL, CostGroup.DAY], since=0, until=1e12
    )
    await database.close()
    assert list(totals) == [CostTotal(1, 1, 2.5, None, None, "k1", "m", day="2026-11-21")]
