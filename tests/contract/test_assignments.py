"""Workers beside the store and workers elsewhere keep one contract."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from sfumato.adapters.objects import ObjectImageStore
from sfumato.adapters.remote import RemoteAssignments, RemoteConnection
from sfumato.adapters.sql import Database, SqlJobQueue, SqlJobStore
from sfumato.bootstrap.parts import SystemClock
from sfumato.core.job import JobError
from sfumato.core.ports import Assignments
from tests.contract.assignments import (
    LEASE,
    AssignmentsContract,
    Hire,
    complete,
    must_claim,
)
from tests.integration.api.serving import context_of, serving
from tests.support.parts import House
from tests.support.servers import S3


class TestExecutionInMemory(AssignmentsContract):
    pass


class OverSqlite:
    """The store and the queue in SQLite, pictures in a folder."""

    @pytest.fixture
    async def database(self, tmp_path: Path) -> AsyncIterator[Database]:
        database = Database.open(f"sqlite:///{tmp_path / 'jobs.db'}")
        yield database
        await database.close()

    @pytest.fixture
    async def store(self, database: Database) -> SqlJobStore:
        return SqlJobStore(database)

    @pytest.fixture
    async def queue(self, database: Database) -> SqlJobQueue:
        return SqlJobQueue(database, SystemClock())

    @pytest.fixture
    async def images(self, tmp_path: Path) -> ObjectImageStore:
        return ObjectImageStore(tmp_path / "images")


class TestExecutionOverSqlite(OverSqlite, AssignmentsContract):
    pass


class Remotely(AssignmentsContract):
    """Workers over HTTP, each of whose calls goes to another replica than the one before."""

    @pytest.fixture
    async def address(self, house: House) -> AsyncIterator[str]:
        async with serving(context_of(house), context_of(house)) as address:
            yield address

    @pytest.fixture
    async def hire(self, house: House, address: str) -> AsyncIterator[Hire]:
        async with contextlib.AsyncExitStack() as stack:

            async def remote(name: str) -> Assignments:
                _, secret = await house.access.create(name=name, runtimes=["default"])
                connection = await stack.enter_async_context(
                    RemoteConnection(
                        address, token=SecretStr(secret), worker=name, clock=house.clock
                    )
                )
                return RemoteAssignments(
                    connection,
                    runtime="default",
                    lease=LEASE,
                    clock=house.clock,
                    locate=lambda model: model,
                )

            yield remote

    async def leave(self, worker: Assignments) -> None:
        assert isinstance(worker, RemoteAssignments)
        await worker.leave()

    async def test_an_end_that_is_told_twice_is_answered_twice(
        self, house: House, worker: Assignments
    ) -> None:
        """Its first answer may have been lost on the way."""
        error = JobError("out_of_memory", "too big")
        ends = [
            lambda held: complete(worker, held),
            lambda held: worker.fail(held, error, retryable=False),
            lambda held: worker.release(held, reason="r", checkpoint={}),
        ]
        for end in ends:
            await house.submit()
            assignment = await must_claim(worker)
            assert await end(assignment)
            assert await end(assignment)

    async def test_a_claim_whose_answer_was_lost_is_answered_again(
        self, house: House, worker: Assignments, other: Assignments
    ) -> None:
        assert isinstance(worker, RemoteAssignments)
        job = await house.submit()
        lost = await must_claim(worker)
        worker._held.clear()
        assert await other.next(timeout=0) is None
        again = await must_claim(worker)
        assert (again.job.id, again.job.attempt) == (job.id, lost.job.attempt)
        assert await worker.next(timeout=0) is None


class TestRemoteOverSqlite(OverSqlite, Remotely):
    pass


class TestRemoteOverS3(Remotely):
    """Pictures and states go to the bucket by presigned URLs, past the service."""

    @pytest.fixture
    async def images(self, s3_server: S3, s3_bucket: str) -> ObjectImageStore:
        return ObjectImageStore(f"s3://{s3_bucket}/prefix", options=s3_server.options)
