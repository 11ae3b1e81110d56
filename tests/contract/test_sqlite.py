"""SQLite keeps the contracts of the job store and the queue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sfumato.adapters.sql import (
    Database,
    SqlApiKeys,
    SqlCostBook,
    SqlJobQueue,
    SqlJobStore,
    SqlWebhookStore,
    SqlWorkerRegistry,
    SqlWorkerTokens,
)
from tests.contract.api_keys import ApiKeysContract
from tests.contract.cost_book import CostBookContract
from tests.contract.job_queue import JobQueueContract, ManualClock
from tests.contract.job_store import JobStoreContract
from tests.contract.webhook_store import WebhookStoreContract
from tests.contract.workers import WorkerRegistryContract, WorkerTokensContract


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'jobs.db'}"


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    database = Database.open(url)
    yield database
    await database.close()


@pytest.fixture
async def other_database(url: str, database: Database) -> AsyncIterator[Database]:
    """The same file, opened again: it shares nothing in memory with the first."""
    other = Database.open(url)
    yield other
    await other.close()


class TestSqliteJobStore(JobStoreContract):
    @pytest.fixture
    async def store(self, database: Database) -> SqlJobStore:
        return SqlJobStore(database)

    @pytest.fixture
    async def elsewhere(self, other_database: Database) -> SqlJobStore:
        return SqlJobStore(other_database)


class TestSqliteJobQueue(JobQueueContract):
    @pytest.fixture
    async def queue(self, database: Database, clock: ManualClock) -> SqlJobQueue:
        return SqlJobQueue(database, clock, max_deliveries=3)

    @pytest.fixture
    async def elsewhere(self, other_database: Database, clock: ManualClock) -> SqlJobQueue:
        return SqlJobQueue(other_database, clock, max_deliveries=3)


class TestSqliteWorkerTokens(WorkerTokensContract):
    @pytest.fixture
    async def tokens(self, database: Database) -> SqlWorkerTokens:
        return SqlWorkerTokens(database)


class TestSqliteWorkerRegistry(WorkerRegistryContract):
    @pytest.fixture
    async def registry(self, database: Database) -> SqlWorkerRegistry:
        return SqlWorkerRegistry(database)


class TestSqliteApiKeys(ApiKeysContract):
    @pytest.fixture
    async def keys(self, database: Database) -> SqlApiKeys:
        return SqlApiKeys(database)


class TestSqliteWebhookStore(WebhookStoreContract):
    @pytest.fixture
    async def store(self, database: Database) -> SqlJobStore:
        return SqlJobStore(database)

    @pytest.fixture
    async def hooks(self, database: Database) -> SqlWebhookStore:  # type: ignore[override]
        return SqlWebhookStore(database)


class TestSqliteCostBook(CostBookContract):
    @pytest.fixture
    async def store(self, database: Database) -> SqlJobStore:
        return SqlJobStore(database)

    @pytest.fixture
    async def book(self, database: Database) -> SqlCostBook:
        return SqlCostBook(database)
