"""Which doorbell stands behind the ``JobQueue`` port, by the URL's scheme."""

from __future__ import annotations

from urllib.parse import urlsplit

from sfumato.adapters.sql import Database, SqlJobQueue
from sfumato.core.errors import StartupRefused
from sfumato.core.ports import Clock, JobQueue
from sfumato.settings import Settings


async def open_queue(settings: Settings, database: Database, clock: Clock) -> JobQueue:
    """The queue of ``SFUMATO_QUEUE_URL``; without one, in the database. The caller closes it.

    Raises:
        StartupRefused: an unknown scheme, a missing package, or a broker that refuses us.
    """
    if settings.queue_url is None:
        return SqlJobQueue(database, clock)
    scheme = urlsplit(settings.queue_url).scheme
    raise StartupRefused(
        f"SFUMATO_QUEUE_URL has the scheme {scheme!r}, for which there is no queue.",
        field="queue_url",
        accepted="amqp://, amqps:// or sqs://; leave it out for a queue in the database",
    )
