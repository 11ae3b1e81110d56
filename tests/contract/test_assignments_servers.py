"""The same contract where jobs and rings are on servers: PostgreSQL, RabbitMQ, SQS."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest

from sfumato.adapters.amqp import AmqpJobQueue
from sfumato.adapters.sql import Database, SqlJobQueue, SqlJobStore
from sfumato.adapters.sqs import SqsJobQueue
from sfumato.bootstrap.parts import SystemClock
from sfumato.core.ports import JobQueue
from tests.contract.assignments import AssignmentsContract
from tests.contract.test_amqp import delete_queues


class OverPostgres(AssignmentsContract):
    @pytest.fixture
    async def database(self, fresh_postgres_url: str) -> AsyncIterator[Database]:
        database = Database.open(fresh_postgres_url)
        yield database
        await database.close()

    @pytest.fixture
    async def store(self, database: Database) -> SqlJobStore:
        return SqlJobStore(database)


class TestExecutionOverPostgres(OverPostgres):
    @pytest.fixture
    async def queue(self, database: Database) -> SqlJobQueue:
        return SqlJobQueue(database, SystemClock())


class TestExecutionOverPostgresAndRabbitMq(OverPostgres):
    @pytest.fixture
    async def queue(self, rabbitmq_url: str) -> AsyncIterator[JobQueue]:
        queue = await AmqpJobQueue.open(
            rabbitmq_url, prefix=f"sfumato-tests-{secrets.token_hex(4)}"
        )
        yield queue
        await queue.close()
        await delete_queues(rabbitmq_url, queue)


class TestExecutionOverPostgresAndSqs(OverPostgres):
    @pytest.fixture
    async def queue(self, sqs_url: str, aws_endpoint: str) -> AsyncIterator[JobQueue]:
        queue = await SqsJobQueue.open(
            sqs_url, SystemClock(), runtimes=["default"], endpoint=aws_endpoint
        )
        yield queue
        await queue.close()
