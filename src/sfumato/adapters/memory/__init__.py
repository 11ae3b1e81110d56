"""Every port in memory: for demos, for tests, and as the plainest statement of the contracts.

Each method runs without an ``await`` in its middle, so the event loop itself makes it atomic.
"""

from sfumato.adapters.memory.api_keys import MemoryApiKeys
from sfumato.adapters.memory.cost_book import MemoryCostBook
from sfumato.adapters.memory.image_store import MemoryImageStore
from sfumato.adapters.memory.job_queue import MemoryJobQueue
from sfumato.adapters.memory.job_store import MemoryJobStore
from sfumato.adapters.memory.webhooks import MemoryWebhookStore
from sfumato.adapters.memory.workers import MemoryWorkerRegistry, MemoryWorkerTokens

__all__ = [
    "MemoryApiKeys",
    "MemoryCostBook",
    "MemoryImageStore",
    "MemoryJobQueue",
    "MemoryJobStore",
    "MemoryWebhookStore",
    "MemoryWorkerRegistry",
    "MemoryWorkerTokens",
]
