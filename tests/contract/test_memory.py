"""The memory adapters keep every contract."""

from __future__ import annotations

import pytest

from sfumato.adapters.memory import (
    MemoryApiKeys,
    MemoryCostBook,
    MemoryImageStore,
    MemoryJobQueue,
    MemoryJobStore,
    MemoryWebhookStore,
    MemoryWorkerRegistry,
    MemoryWorkerTokens,
)
from tests.contract.api_keys import ApiKeysContract
from tests.contract.cost_book import CostBookContract
from tests.contract.image_store import ImageStoreContract
from tests.contract.job_queue import JobQueueContract, ManualClock
from tests.contract.job_store import JobStoreContract
from tests.contract.webhook_store import WebhookStoreContract
from tests.contract.workers import WorkerRegistryContract, WorkerTokensContract


class TestMemoryJobStore(JobStoreContract):
    @pytest.fixture
    async def store(self) -> MemoryJobStore:
        return MemoryJobStore()


class TestMemoryJobQueue(JobQueueContract):
    @pytest.fixture
    async def queue(self, clock: ManualClock) -> MemoryJobQueue:
        return MemoryJobQueue(clock, max_deliveries=3)


class TestMemoryImageStore(ImageStoreContract):
    @pytest.fixture
    async def images(self) -> MemoryImageStore:
        return MemoryImageStore()


class TestMemoryWorkerTokens(WorkerTokensContract):
    @pytest.fixture
    async def tokens(self) -> MemoryWorkerTokens:
        return MemoryWorkerTokens()


class TestMemoryWorkerRegistry(WorkerRegistryContract):
    @pytest.fixture
    async def registry(self) -> MemoryWorkerRegistry:
        return MemoryWorkerRegistry()


class TestMemoryApiKeys(ApiKeysContract):
    @pytest.fixture
    async def keys(self) -> MemoryApiKeys:
        return MemoryApiKeys()


class TestMemoryWebhookStore(WebhookStoreContract):
    @pytest.fixture
    async def store(self) -> MemoryJobStore:
        return MemoryJobStore()

    @pytest.fixture
    async def hooks(self, store: MemoryJobStore) -> MemoryWebhookStore:  # type: ignore[override]
        return MemoryWebhookStore(store)


class TestMemoryCostBook(CostBookContract):
    @pytest.fixture
    async def store(self) -> MemoryJobStore:
        return MemoryJobStore()

    @pytest.fixture
    async def book(self, store: MemoryJobStore) -> MemoryCostBook:
        return MemoryCostBook(store)
