"""SQLite and PostgreSQL keep the contract of all that lies in a database."""

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


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'jobs.db'}"
    server: str = request.getfixturevalue("fresh_postgres_url")
    return server


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    database = Database.open(url)
    yield database
    await database.close()


@pytest.fixture
async def other_database(url: str, database: Database) -> AsyncIterator[Database]:
    """The same one, opened again as another process does: they share nothing in memory."""
    other = Database.open(url)
    yield other
    await other.close()


class TestSqlJobStore(JobStoreContract):
    @pytest.fixture
    async def store(self, database: Database) -> SqlJobStore:
        return SqlJobStore(database)

    @pytest.fixture
    async def elsewhere(self, other_database: Database) -> SqlJobStore:
        return SqlJobStore(other_database)


class TestSqlJobQueue(JobQueueContract):
    @pytest.fixture
    async def queue(self, database: Database, clock: ManualClock) -> SqlJobQueue:
        return SqlJobQueue(database, clock, max_deliveries=3)

    @pytest.fixture
    async def elsewhere(self, other_database: Database, clock: ManualClock) -> SqlJobQueue:
        return SqlJobQueue(other_database, clock, max_deliveries=3)


class TestSqlWorkerTokens(WorkerTokensContract):
    @pytest.fixture
    async def tokens(self, database: Database) -> SqlWorkerTokens:
        return SqlWorkerTokens(database)


class TestSqlWorkerRegistry(WorkerRegistryContract):
    @pytest.fixture
    async def registry(self, database: Database) -> SqlWorkerRegistry:
        return SqlWorkerRegistry(database)


class TestSqlApiKeys(ApiKeysContract):
    @pytest.fixture
    async def keys(self, database: Database) -> SqlApiKeys:
        return SqlApiKeys(database)


class TestSqlWebhookStore(WebhookStoreContract):
    @pytest.fixture
    async def store(self, database: Database) -> SqlJobStore:
        return SqlJobStore(database)

    @pytest.fixture
    async def hooks(self, database: Database) -> SqlWebhookStore:  # type: ignore[override]
        return SqlWebhookStore(database)


class TestSqlCostBook(CostBookContract):
    @pytest.fixture
    async def store(self, database: Database) -> SqlJobStore:
        return SqlJobStore(database)

    @pytest.fixture
    async def book(self, database: Database) -> SqlCostBook:
        return SqlCostBook(database)
