"""SQLite keeps the contracts of the job store and the queue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sfumato.adapters.sql import Database, SqlJobQueue, SqlJobStore
from tests.contract.job_queue import JobQueueContract, ManualClock
from tests.contract.job_store import JobStoreContract


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database.open(f"sqlite:///{tmp_path / 'jobs.db'}")
    yield database
    await database.close()


class TestSqliteJobStore(JobStoreContract):
    @pytest.fixture
    async def store(self, database: Database) -> SqlJobStore:
        return SqlJobStore(database)


class TestSqliteJobQueue(JobQueueContract):
    @pytest.fixture
    async def queue(self, database: Database, clock: ManualClock) -> SqlJobQueue:
        return SqlJobQueue(database, clock)
