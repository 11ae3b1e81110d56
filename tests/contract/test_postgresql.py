"""PostgreSQL keeps the contracts of the job store, the queue, the tokens and the registry."""

from __future__ import annotations

from collections.abc import AsyncIterator

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
async def database(fresh_postgres_url: str) -> AsyncIterator[Database]:
    database = Database.open(fresh_postgres_url)
    yield database
    await database.close()


@pytest.fixture
async def other_database(fresh_postgres_url: str, database: Database) -> AsyncIterator[Database]:
    """The same database, as another process opens it."""
    other = Database.open(fresh_postgres_url)
    yield other
    await other.close()


class TestPostgresJobStore(JobStoreContract):
    @pytest.fixture
    async def store(self, database: Database) -> SqlJobStore:
        return SqlJobStore(database)

    @pytest.fixture
    async def elsewhere(self, other_database: Database) -> SqlJobStore:
        return SqlJobStore(other_database)


class TestPostgresJobQueue(JobQueueContract):
    @pytest.fixture
    async def queue(self, database: Database, clock: ManualClock) -> SqlJobQueue:
        return SqlJobQueue(database, clock, max_deliveries=3)

    @pytest.fixture
    async def elsewhere(self, other_database: Database, clock: ManualClock) -> SqlJobQueue:
        return SqlJobQueue(other_database, clock, max_deliveries=3)


class TestPostgresWorkerTokens(WorkerTokensContract):
    @pytest.fixture
    async def tokens(self, database: Database) -> SqlWorkerTokens:
        return SqlWorkerTokens(database)


class TestPostgresWorkerRegistry(WorkerRegistryContract):
    @pytest.fixture
    async def registry(self, database: Database) -> SqlWorkerRegistry:
        return SqlWorkerRegistry(database)


class TestPostgresqlApiKeys(ApiKeysContract):
    @pytest.fixture
    async def keys(self, database: Database) -> SqlApiKeys:
        return SqlApiKeys(database)


class TestPostgresqlWebhookStore(WebhookStoreContract):
    @pytest.fixture
    async def store(self, database: Database) -> SqlJobStore:
        return SqlJobStore(database)

    @pytest.fixture
    async def hooks(self, database: Database) -> SqlWebhookStore:  # type: ignore[override]
        return SqlWebhookStore(database)


class TestPostgresCostBook(CostBookContract):
    @pytest.fixture
    async def store(self, database: Database) -> SqlJobStore:
        return SqlJobStore(database)

    @pytest.fixture
    async def book(self, database: Database) -> SqlCostBook:
        return SqlCostBook(database)
