"""The tables. Times are seconds since the epoch, UTC; documents are JSON text.

``migrations/`` makes them; a test holds the two together.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_Seconds = Float(53)
_Money = Float(53)
#: SQLite counts only an INTEGER primary key up by itself.
_Serial = BigInteger().with_variant(Integer, "sqlite")

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("runtime", String(255), nullable=False),
    Column("status", String(16), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("created_at", _Seconds, nullable=False),
    Column("rung_at", _Seconds, nullable=False),
    Column("started_at", _Seconds),
    Column("finished_at", _Seconds),
    Column("attempt", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("losses", Integer, nullable=False),
    Column("worker", String(255)),
    Column("lease_until", _Seconds),
    Column("cancel_requested", Boolean, nullable=False),
    Column("checkpoint", String(1024)),
    Column("traceparent", String(128)),
    Column("idempotency_key", String(255), unique=True),
    Column("request_hash", String(64), nullable=False),
    #: Number of the job's latest event.
    Column("last_event", Integer, nullable=False),
    Column("request", Text, nullable=False),
    Column("settings", Text, nullable=False),
    Column("images", Text, nullable=False),
    Column("error", Text),
    Column("timings", Text, nullable=False),
    Column("notes", Text, nullable=False),
    #: The key that made it; None where none was asked for.
    Column("owner", String(64)),
    Column("num_images", Integer, nullable=False, server_default="1"),
    #: What its attempts took so far.
    Column("gpu_seconds", _Seconds),
    Column("cost", _Money),
    Column("currency", String(16)),
    Index(None, "created_at", "id"),
    Index(None, "runtime", "status", "priority", "created_at"),
    Index(None, "status", "created_at"),
    Index(None, "finished_at"),
    Index(None, "owner", "created_at"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("job_id", ForeignKey(jobs.c.id, ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("worker", String(255), nullable=False),
    Column("started_at", _Seconds, nullable=False),
    Column("ended_at", _Seconds),
    Column("outcome", String(16)),
    Column("reason", Text),
)

events = Table(
    "events",
    metadata,
    #: Rises over all jobs: how a watcher finds what changed.
    Column("seq", _Serial, primary_key=True, autoincrement=True),
    Column("job_id", ForeignKey(jobs.c.id, ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("at", _Seconds, nullable=False),
    Column("data", Text, nullable=False),
    #: Apart from ``data``, so that it can be dropped once the job has finished.
    Column("preview", Text),
    UniqueConstraint("job_id", "number"),
    sqlite_autoincrement=True,
)

rings = Table(
    "rings",
    metadata,
    #: Age, whatever the clocks say.
    Column("seq", _Serial, primary_key=True, autoincrement=True),
    Column("job_id", String(64), nullable=False, unique=True),
    Column("runtime", String(255), nullable=False),
    #: Minus the priority, so that one ascending index is the order of the queue.
    Column("rank", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("traceparent", String(128)),
    Column("visible_at", _Seconds, nullable=False),
    #: Changes whenever the ring changes hands; None before its first delivery.
    Column("receipt", String(32)),
    Column("deliveries", Integer, nullable=False),
    Index(None, "runtime", "rank", "seq"),
    sqlite_autoincrement=True,
)

worker_tokens = Table(
    "worker_tokens",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(255), nullable=False),
    #: SHA-256 of the token, in hex. The token itself is kept nowhere.
    Column("digest", String(64), nullable=False, unique=True),
    Column("runtimes", Text, nullable=False),
    Column("created_at", _Seconds, nullable=False),
    Column("expires_at", _Seconds),
    Column("revoked_at", _Seconds),
    Column("used_at", _Seconds),
)

workers = Table(
    "workers",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("runtime", String(255), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("device", String(255), nullable=False),
    Column("models", Text, nullable=False),
    Column("started_at", _Seconds, nullable=False),
    Column("seen_at", _Seconds, nullable=False),
    Index(None, "seen_at"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(255), nullable=False),
    #: SHA-256 of the key, in hex. The key itself is kept nowhere.
    Column("digest", String(64), nullable=False, unique=True),
    Column("scopes", Text, nullable=False),
    Column("models", Text, nullable=False),
    Column("runtimes", Text, nullable=False),
    Column("limits", Text, nullable=False),
    Column("webhook", Text),
    Column("created_at", _Seconds, nullable=False),
    Column("expires_at", _Seconds),
    Column("revoked_at", _Seconds),
    Column("used_at", _Seconds),
)

#: Made before its job, so it can't refer to it; what has none is dropped later.
webhooks = Table(
    "webhooks",
    metadata,
    Column("job_id", String(64), primary_key=True),
    Column("webhook", Text, nullable=False),
    Column("owner", String(64)),
    Column("created_at", _Seconds, nullable=False),
    Column("state", String(16), nullable=False),
    #: Number of the last event that was told.
    Column("after", Integer, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("failing_since", _Seconds),
    Column("next_at", _Seconds, nullable=False),
    Index(None, "state", "next_at"),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("seq", _Serial, primary_key=True, autoincrement=True),
    Column("job_id", ForeignKey(webhooks.c.job_id, ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("event", String(16), nullable=False),
    Column("at", _Seconds, nullable=False),
    Column("status", Integer),
    Column("error", Text),
    Index(None, "job_id", "seq"),
    sqlite_autoincrement=True,
)

#: What each attempt took. No job is referred to: this outlives them.
charges = Table(
    "charges",
    metadata,
    Column("job_id", String(64), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("at", _Seconds, nullable=False),
    #: Of ``at``, by UTC: days since the epoch.
    Column("day", Integer, nullable=False),
    Column("owner", String(64)),
    Column("model", Text, nullable=False),
    Column("runtime", String(255), nullable=False),
    Column("images", Integer, nullable=False),
    Column("gpu_seconds", _Seconds, nullable=False),
    Column("cost", _Money),
    Column("currency", String(16)),
    Index(None, "at"),
    Index(None, "owner", "at"),
)

#: What the service signs with; made once, by whoever needs it first.
secrets = Table(
    "secrets",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)
