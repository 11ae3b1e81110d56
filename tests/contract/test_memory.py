"""The memory adapters keep every contract."""

from __future__ import annotations

import pytest

from sfumato.adapters.memory import (
    MemoryImageStore,
    MemoryJobQueue,
    MemoryJobStore,
    MemoryWorkerRegistry,
    MemoryWorkerTokens,
)
from tests.contract.image_store import ImageStoreContract
from tests.contract.job_queue import JobQueueContract, ManualClock
from tests.contract.job_store import JobStoreContract
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
