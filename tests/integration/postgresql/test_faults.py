"""What the outside does to PostgreSQL: stops it, kills it, cuts the line, competes for rows."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy import text

from sfumato.adapters.sql import Database, SqlJobQueue, SqlJobStore, writer
from sfumato.adapters.sql import database as database_module
from sfumato.bootstrap.parts import SystemClock
from sfumato.core.errors import Unavailable
from sfumato.core.ports import Ring
from sfumato.services.watching import JobWatcher
from tests.contract.jobs import new_job
from tests.integration.sql.test_faults import CREATE_FOR_EVER
from tests.support.proxy import Proxy
from tests.support.servers import PrivatePostgres, private

PATIENCE = 60.0


@pytest.fixture
def server() -> Iterator[PrivatePostgres]:
    server = private(PrivatePostgres)
    assert isinstance(server, PrivatePostgres)
    try:
        yield server.start()  # type: ignore[misc]
    finally:
        server.close()


@pytest.fixture
async def database(fresh_postgres_url: str) -> AsyncIterator[Database]:
    database = Database.open(fresh_postgres_url)
    yield database
    await database.close()


async def test_a_restart_is_waited_out(server: PrivatePostgres) -> None:
    """Every connection is dead afterwards: the writer's, the readers', the listener's."""
    database = Database.open(server.url)
    store, queue = SqlJobStore(database), SqlJobQueue(database, SystemClock())
    job = new_job()
    await store.create(job)
    async with JobWatcher(store) as watcher:
        receiving = asyncio.create_task(queue.receive(["default"], visibility=10, timeout=PATIENCE))
        await asyncio.to_thread(server.restart)
        assert await store.get(job.id) == job
        with watcher.subscribe(job.id) as changed:
            await queue.ring(Ring(job.id, "default"))
            delivery = await receiving
            assert delivery is not None
            claimed = await store.claim(job.id, worker="w", now=5.0, lease_until=50.0)
            assert claimed is not None
            await asyncio.wait_for(changed.wait(), PATIENCE)
    await database.close()


async def test_what_was_confirmed_survives_a_killed_server(server: PrivatePostgres) -> None:
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CREATE_FOR_EVER, server.url, stdout=asyncio.subprocess.PIPE
    )
    assert writer.stdout is not None
    try:
        confirmed = [(await writer.stdout.readline()).decode().strip() for _ in range(50)]
        await asyncio.to_thread(server.kill)
    finally:
        # It may have ended by itself: a commit whose answer was lost is an error that it passes on.
        with contextlib.suppress(ProcessLookupError):
            writer.kill()
        await writer.communicate()
    await asyncio.to_thread(server.start)
    database = Database.open(server.url)
    store = SqlJobStore(database)
    for job_id in confirmed:
        assert [event.number for event in await store.events(job_id)] == [1]
    await database.close()


async def test_while_it_is_away_calls_say_so_and_then_all_is_well(
    server: PrivatePostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (database_module, writer):
        monkeypatch.setattr(module, "PAUSES", (0.01,))
    database = Database.open(server.url)
    store, job = SqlJobStore(database), new_job()
    await store.create(job)
    await asyncio.to_thread(server.stop)
    with pytest.raises(Unavailable, match="Nothing was changed"):
        await store.create(new_job())
    with pytest.raises(Unavailable):
        await store.get(job.id)
    await asyncio.to_thread(server.start)
    await store.create(new_job())
    assert len((await store.list()).jobs) == 2
    await database.close()


async def test_a_cut_line_is_mended_and_no_change_is_missed(fresh_postgres_url: str) -> None:
    async with Proxy(fresh_postgres_url) as proxy:
        near = await asyncio.to_thread(Database.open, proxy.url)
        far = Database.open(fresh_postgres_url)
        job = new_job()
        await SqlJobStore(far).create(job)
        async with JobWatcher(SqlJobStore(near)) as watcher:
            with watcher.subscribe(job.id) as changed:
                proxy.cut()
                await SqlJobStore(far).claim(job.id, worker="w", now=5.0, lease_until=50.0)
                proxy.resume()
                await asyncio.wait_for(changed.wait(), PATIENCE)
                assert (await SqlJobStore(near).get(job.id)).worker == "w"
                changed.clear()
                await SqlJobStore(far).cancel(job.id, now=6.0)
                while not (await SqlJobStore(near).get(job.id)).cancel_requested:
                    await asyncio.wait_for(changed.wait(), PATIENCE)
                    changed.clear()
        await near.close()
        await far.close()


async def test_a_key_used_by_two_at_once_makes_one_job(
    database: Database, fresh_postgres_url: str
) -> None:
    other = Database.open(fresh_postgres_url)
    stores = [SqlJobStore(database), SqlJobStore(other)]
    for number in range(10):
        kept = await asyncio.gather(
            *(store.create(new_job(), idempotency_key=f"k{number}") for store in stores * 4)
        )
        assert len({job.id for job in kept}) == 1
    await other.close()


async def test_two_that_lock_each_other_out_both_succeed(
    database: Database, fresh_postgres_url: str
) -> None:
    """A deadlock is PostgreSQL's to find and ours to survive."""
    other = Database.open(fresh_postgres_url)
    store = SqlJobStore(database)
    one, two = new_job(), new_job()
    await store.create(one)
    await store.create(two)

    def touching(first: str, second: str) -> object:
        def work(connection: object) -> None:
            for job_id in (first, second):
                connection.execute(  # type: ignore[attr-defined]
                    text("UPDATE jobs SET rung_at = rung_at + 1 WHERE id = :id"), {"id": job_id}
                )
                connection.execute(text("SELECT pg_sleep(0.02)"))  # type: ignore[attr-defined]

        return work

    before = one.rung_at
    for _ in range(2):
        await asyncio.gather(
            database.write(touching(one.id, two.id)),  # type: ignore[arg-type]
            other.write(touching(two.id, one.id)),  # type: ignore[arg-type]
        )
    assert (await store.get(one.id)).rung_at == before + 4
    await other.close()


async def test_errors_do_not_tell_prompts(database: Database) -> None:
    """PostgreSQL quotes the row that it refuses."""
    await database.write(
        lambda connection: connection.execute(text("ALTER TABLE jobs ADD CHECK (priority < 5)"))
    )
    with pytest.raises(Unavailable) as caught:
        await SqlJobStore(database).create(new_job(prompt="my secret", priority=9))
    assert "secret" not in str(caught.value)
