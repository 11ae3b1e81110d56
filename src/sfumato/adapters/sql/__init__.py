"""The job store and the queue in SQL, through SQLAlchemy Core: SQLite now, PostgreSQL to come."""

from sfumato.adapters.sql.database import Database
from sfumato.adapters.sql.queue import SqlJobQueue
from sfumato.adapters.sql.store import SqlJobStore
from sfumato.adapters.sql.tokens import SqlWorkerTokens
from sfumato.adapters.sql.workers import SqlWorkerRegistry

__all__ = ["Database", "SqlJobQueue", "SqlJobStore", "SqlWorkerRegistry", "SqlWorkerTokens"]
