"""The three ways to run Sfumato that the run breaks: their servers, settings, faults and insides."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiobotocore.session

from scripts.servers import PrivateAws, PrivatePostgres, PrivateRabbit, PrivateS3
from tests.chaos.faults import Fault, of_network, of_server
from tests.support.proxy import Proxy
from tests.support.servers import S3

_REGION = "us-east-1"
_READS_AT_ONCE = 16


@dataclass
class Setup:
    """One way to run Sfumato.

    Attributes:
        settings: of every process, without the ``SFUMATO_`` prefix.
        environment: what the cloud's clients find in the environment.
        database_url: past every proxy, for a look from outside.
        faults: what can be broken here beside processes and clocks.
        objects: SHA-256 of every object that is stored, by key.
        rings: messages that the queue holds; those set aside included.
    """

    name: str
    settings: dict[str, object]
    database_url: str
    objects: Callable[[], AsyncIterator[tuple[str, str]]]
    rings: Callable[[], AsyncIterator[tuple[str, int]]] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)


@contextlib.asynccontextmanager
async def sqlite(folder: Path) -> AsyncIterator[Setup]:
    """The embedded default: everything in one folder."""
    data = folder / "data"
    data.mkdir()
    yield Setup(
        name="sqlite",
        settings={"data": data},
        database_url=f"sqlite:///{data / 'sfumato.db'}",
        objects=lambda: _objects_of_folder(data / "images"),
        faults={
            "database: locked": _lock_of(data / "sfumato.db"),
            "folder of pictures: away": _absence_of(data / "images"),
        },
    )


@contextlib.asynccontextmanager
async def rabbitmq(folder: Path) -> AsyncIterator[Setup]:
    """PostgreSQL, RabbitMQ and S3."""
    async with contextlib.AsyncExitStack() as stack:
        database, broker, bucket = PrivatePostgres(), PrivateRabbit(), PrivateS3()
        for server in (database, broker, bucket):
            stack.callback(server.close)
        await asyncio.gather(*(asyncio.to_thread(s.start) for s in (database, broker, bucket)))
        to_database = await stack.enter_async_context(Proxy(database.url))
        to_broker = await stack.enter_async_context(Proxy(broker.url))
        to_bucket = await stack.enter_async_context(Proxy(bucket.url))
        s3 = S3(bucket.url)
        name = await s3.make_bucket()
        yield Setup(
            name="rabbitmq",
            settings={
                "data": folder / "data",
                "database_url": to_database.url,
                "queue_url": to_broker.url,
                "images_url": f"s3://{name}",
                "s3_endpoint": to_bucket.url,
            },
            environment=s3.environment,
            database_url=database.url,
            objects=lambda: _objects_of_bucket(s3, name),
            rings=lambda: _rings_of_rabbit(broker),
            faults={
                **of_server("PostgreSQL", database),
                **of_network("PostgreSQL", to_database),
                **of_server("RabbitMQ", broker),
                **of_network("RabbitMQ", to_broker),
                **of_server("S3", bucket),
                **of_network("S3", to_bucket),
            },
        )


@contextlib.asynccontextmanager
async def sqs(folder: Path) -> AsyncIterator[Setup]:
    """SNS and SQS (moto, which forgets everything when it ends), S3, and jobs in SQLite."""
    data = folder / "data"
    data.mkdir()
    async with contextlib.AsyncExitStack() as stack:
        broker, bucket = PrivateAws(), PrivateS3()
        for server in (broker, bucket):
            stack.callback(server.close)
        await asyncio.gather(*(asyncio.to_thread(s.start) for s in (broker, bucket)))
        to_broker = await stack.enter_async_context(Proxy(broker.url))
        to_bucket = await stack.enter_async_context(Proxy(bucket.url))
        s3 = S3(bucket.url)
        name = await s3.make_bucket()
        yield Setup(
            name="sqs",
            settings={
                "data": data,
                "queue_url": f"sqs://{_REGION}/chaos",
                "aws_endpoint": to_broker.url,
                "images_url": f"s3://{name}",
                "s3_endpoint": to_bucket.url,
            },
            environment=s3.environment,
            database_url=f"sqlite:///{data / 'sfumato.db'}",
            objects=lambda: _objects_of_bucket(s3, name),
            rings=lambda: _rings_of_sqs(broker.url, s3),
            faults={
                "database: locked": _lock_of(data / "sfumato.db"),
                **of_server("SQS", broker),
                **of_network("SQS", to_broker),
                **of_server("S3", bucket),
                **of_network("S3", to_bucket),
            },
        )


SETUPS: Mapping[str, Callable[[Path], contextlib.AbstractAsyncContextManager[Setup]]] = {
    "sqlite": sqlite,
    "rabbitmq": rabbitmq,
    "sqs": sqs,
}


# -- faults of files -----------------------------------------------------------------------------


def _lock_of(database: Path) -> Fault:
    """Another process, as a backup, holds the lock for longer than a writer waits."""

    async def lock(draw: random.Random) -> None:
        if not await asyncio.to_thread(database.exists):
            return
        with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as other:
            while True:
                try:
                    other.execute("BEGIN EXCLUSIVE")
                except sqlite3.OperationalError:
                    await asyncio.sleep(0.01)
                else:
                    break
            await asyncio.sleep(draw.uniform(1, 7))
            other.execute("ROLLBACK")

    return lock


def _absence_of(folder: Path) -> Fault:
    """The folder is gone and can't be made, as with a share that is not mounted."""
    away = folder.with_name("away")

    async def remove(draw: random.Random) -> None:
        if not await asyncio.to_thread(folder.exists):
            return
        _replace(folder, away)
        await asyncio.sleep(draw.uniform(1, 5))
        _put_back(folder, away)

    return remove


def _replace(folder: Path, away: Path) -> None:
    folder.rename(away)
    folder.touch()


def _put_back(folder: Path, away: Path) -> None:
    folder.unlink()
    away.rename(folder)


# -- looks from outside --------------------------------------------------------------------------


async def _objects_of_folder(folder: Path) -> AsyncIterator[tuple[str, str]]:
    for path in await asyncio.to_thread(_files_in, folder):
        yield str(path.relative_to(folder)), hashlib.sha256(path.read_bytes()).hexdigest()


def _files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


async def _objects_of_bucket(s3: S3, bucket: str) -> AsyncIterator[tuple[str, str]]:
    async with s3.client() as client:
        keys = [
            entry["Key"]
            async for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
            for entry in page.get("Contents", [])
        ]

        async def digest(key: str) -> tuple[str, str]:
            answer = await client.get_object(Bucket=bucket, Key=key)
            return key, hashlib.sha256(await answer["Body"].read()).hexdigest()

        for first in range(0, len(keys), _READS_AT_ONCE):
            some = keys[first : first + _READS_AT_ONCE]
            for found in await asyncio.gather(*map(digest, some)):
                yield found


async def _rings_of_rabbit(broker: PrivateRabbit) -> AsyncIterator[tuple[str, int]]:
    told = await asyncio.to_thread(broker.control, "list_queues", "name", "messages")
    for line in told.splitlines():
        name, _, count = line.rpartition("\t")
        if count.isdigit():
            yield name, int(count)


async def _rings_of_sqs(endpoint: str, s3: S3) -> AsyncIterator[tuple[str, int]]:
    session = aiobotocore.session.get_session()
    async with session.create_client(
        "sqs",
        endpoint_url=endpoint,
        region_name=_REGION,
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret_key,
    ) as client:
        for url in (await client.list_queues()).get("QueueUrls", []):
            found = await client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
            counts = [
                int(value)
                for name, value in found["Attributes"].items()
                if name.startswith("ApproximateNumberOfMessages")
            ]
            yield url.rpartition("/")[2], sum(counts)


async def remove(folder: Path) -> None:
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
