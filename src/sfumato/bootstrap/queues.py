"""Which doorbell stands behind the ``JobQueue`` port, by the URL's scheme."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from sfumato.adapters.sql import Database, SqlJobQueue
from sfumato.core.errors import StartupRefused
from sfumato.core.ports import Clock, JobQueue
from sfumato.settings import Settings


async def open_queue(
    settings: Settings, database: Database, clock: Clock, runtimes: Sequence[str]
) -> JobQueue:
    """The queue of ``SFUMATO_QUEUE_URL``; without one, in the database. The caller closes it.

    Args:
        runtimes: those whose queues a broker must have before anything begins.

    Raises:
        StartupRefused: an unknown scheme, a missing package, or a broker that refuses us.
    """
    if settings.queue_url is None:
        return SqlJobQueue(database, clock)
    return await open_broker(settings, settings.queue_url, clock, runtimes)


async def open_broker(
    settings: Settings, url: str, clock: Clock, runtimes: Sequence[str]
) -> JobQueue:
    """The queue behind a URL; as :func:`open_queue`."""
    scheme = urlsplit(url).scheme
    if scheme in ("amqp", "amqps"):
        return await _open_amqp(url, runtimes)
    if scheme == "sqs":
        return await _open_sqs(settings, url, clock, runtimes)
    raise StartupRefused(
        f"SFUMATO_QUEUE_URL has the scheme {scheme!r}, for which there is no queue.",
        field="queue_url",
        accepted="amqp://, amqps:// or sqs://; leave it out for a queue in the database",
    )


async def _open_amqp(url: str, runtimes: Sequence[str]) -> JobQueue:
    try:
        from sfumato.adapters.amqp import AmqpJobQueue  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        raise StartupRefused(
            "SFUMATO_QUEUE_URL asks for RabbitMQ, whose client is not installed: "
            "pip install 'sfumato[amqp]'.",
            field="queue_url",
        ) from None
    return await AmqpJobQueue.open(url, runtimes=runtimes)


async def _open_sqs(
    settings: Settings, url: str, clock: Clock, runtimes: Sequence[str]
) -> JobQueue:
    try:
        from sfumato.adapters.sqs import SqsJobQueue  # noqa: PLC0415 - an extra, and half a second
    except ModuleNotFoundError:
        raise StartupRefused(
            "SFUMATO_QUEUE_URL asks for SQS, whose client is not installed: "
            "pip install 'sfumato[aws]'.",
            field="queue_url",
        ) from None
    return await SqsJobQueue.open(
        url,
        clock,
        runtimes=runtimes,
        endpoint=settings.aws_endpoint,
        max_jobs=settings.max_jobs,
    )
