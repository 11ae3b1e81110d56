"""The job store, the queue and the keys in SQL, through SQLAlchemy Core: SQLite and PostgreSQL."""

from sfumato.adapters.sql.api_keys import SqlApiKeys
from sfumato.adapters.sql.cost_book import SqlCostBook
from sfumato.adapters.sql.database import Database
from sfumato.adapters.sql.queue import SqlJobQueue
from sfumato.adapters.sql.store import SqlJobStore
from sfumato.adapters.sql.tokens import SqlWorkerTokens
from sfumato.adapters.sql.webhooks import SqlWebhookStore
from sfumato.adapters.sql.workers import SqlWorkerRegistry

__all__ = [
    "Database",
    "SqlApiKeys",
    "SqlCostBook",
    "SqlJobQueue",
    "SqlJobStore",
    "SqlWebhookStore",
    "SqlWorkerRegistry",
    "SqlWorkerTokens",
]
