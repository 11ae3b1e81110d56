"""Fixtures: real servers, as ``scripts/services`` left them, found here, or started for the session.

A test that asks for a server which this machine can't run is skipped, and says why. Tests that
stop or kill a server start a private one: ``with PrivatePostgres() as server: …``.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeVar

import aiobotocore.session
import psycopg
import pytest
from psycopg import sql

from scripts.servers import (
    Missing,
    PrivateAws,
    PrivatePostgres,
    PrivateRabbit,
    PrivateS3,
    Server,
)
from scripts.servers import command as services
from scripts.servers.registry import Registry
from scripts.servers.s3 import ACCESS_KEY, READER_ACCESS_KEY, READER_SECRET_KEY, SECRET_KEY

__all__ = ["S3", "PrivateAws", "PrivatePostgres", "PrivateRabbit", "PrivateS3", "private"]

REGION = "us-east-1"

_ServerT = TypeVar("_ServerT", bound=Server)


def private(kind: type[_ServerT]) -> _ServerT:
    """A server of the test's own, not started yet; skips the test where there is none."""
    try:
        return kind()
    except Missing as reason:
        pytest.skip(str(reason))


class _Servers:
    """URLs by name, for one session. What it starts it stops."""

    def __init__(self, started: ExitStack) -> None:
        self._started = started
        self._urls: dict[str, str] = {}

    def url(self, name: str) -> str:
        if name not in self._urls:
            self._urls[name] = self._find(name)
        return self._urls[name]

    def _find(self, name: str) -> str:
        registry = Registry.read()
        entry = registry.servers.get(name) or services.found(name)
        if entry is not None:
            return entry.url
        try:
            server = services.private(name)
        except Missing as reason:
            pytest.skip(str(reason))
        self._started.callback(server.close)
        return server.start().url


@pytest.fixture(scope="session")
def servers() -> Iterator[_Servers]:
    with ExitStack() as started:
        yield _Servers(started)


@pytest.fixture(scope="session")
def postgres_server(servers: _Servers) -> str:
    """URL of a PostgreSQL in which we may make databases; for those who make their own."""
    return servers.url("postgres")


@pytest.fixture(scope="session")
def postgres_url(postgres_server: str) -> Iterator[str]:
    """URL of an empty database for the whole session."""
    with _database(postgres_server) as url:
        yield url


@pytest.fixture
def fresh_postgres_url(postgres_server: str) -> Iterator[str]:
    """URL of an empty database, for one test."""
    with _database(postgres_server) as url:
        yield url


@pytest.fixture(scope="session")
def rabbitmq_url(servers: _Servers) -> str:
    return servers.url("rabbitmq")


@pytest.fixture(scope="session")
def aws_endpoint(servers: _Servers) -> str:
    """Where SNS and SQS answer; any credentials do."""
    return servers.url("aws")


@dataclass(frozen=True)
class S3:
    """An S3 server. The keys of ``reader`` may look, and not touch."""

    endpoint: str
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY
    region: str = REGION
    reader: tuple[str, str] = (READER_ACCESS_KEY, READER_SECRET_KEY)

    @property
    def environment(self) -> dict[str, str]:
        """Credentials as the cloud's own tools find them."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
        }

    @property
    def options(self) -> dict[str, str]:
        """The same for obstore's client, and where the server is."""
        return {
            "endpoint": self.endpoint,
            "allow_http": "true",
            "access_key_id": self.access_key,
            "secret_access_key": self.secret_key,
            "region": self.region,
        }

    def client(self) -> aiobotocore.session.ClientCreatorContext:
        """The vendor's own client, to look at what an adapter did: ``async with``."""
        return aiobotocore.session.get_session().create_client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
        )

    async def make_bucket(self) -> str:
        """Make a bucket and answer its name."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        async with self.client() as client:
            await client.create_bucket(Bucket=name)
        return name

    def new_bucket(self) -> str:
        """The same, for those who have no event loop."""
        return asyncio.run(self.make_bucket())


@pytest.fixture(scope="session")
def s3_server(servers: _Servers) -> S3:
    return S3(servers.url("s3"))


@pytest.fixture
def s3_bucket(s3_server: S3) -> str:
    """Name of an empty bucket, for one test."""
    return s3_server.new_bucket()


@contextmanager
def _database(server: str) -> Iterator[str]:
    """A database that exists as long as the block."""
    name = f"sfumato_test_{uuid.uuid4().hex[:12]}"

    def do(statement: str) -> None:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))

    do("CREATE DATABASE {}")
    try:
        before, mark, query = server.partition("?")
        yield f"{before.rpartition('/')[0]}/{name}{mark}{query}"
    finally:
        do("DROP DATABASE {} WITH (FORCE)")
