"""What the outside does to a database: locks it, fills its disk, kills its writer."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from sfumato.adapters.sql import Database, SqlJobStore
from sfumato.core.errors import StorageFull, StoreBusy, Unavailable
from tests.contract.jobs import new_job

#: Creates jobs for ever and says each one's id once the store has confirmed it.
CREATE_FOR_EVER = """
import asyncio, sys
from sfumato.adapters.sql import Database, SqlJobStore
from tests.contract.jobs import new_job

async def create_one_after_another(store):
    while True:
        print((await store.create(new_job())).id, flush=True)

async def main():
    store = SqlJobStore(Database.open(sys.argv[1]))
    await asyncio.gather(*(create_one_after_another(store) for _ in range(8)))

asyncio.run(main())
"""


async def test_a_locked_database_is_busy_and_works_afterwards(
    database: Database, path: Path
) -> None:
    store, job = SqlJobStore(database), new_job()
    await store.create(job)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    refused = asyncio.gather(*(store.create(new_job()) for _ in range(5)), return_exceptions=True)
    assert await store.get(job.id) == job  # readers don't wait for writers
    assert {type(answer) for answer in await refused} == {StoreBusy}
    other.execute("ROLLBACK")
    other.close()
    await store.create(new_job())
    assert len((await store.list()).jobs) == 2


async def test_a_full_disk_refuses_jobs_and_keeps_those_it_has(database: Database) -> None:
    store, first = SqlJobStore(database), new_job()
    await store.create(first)

    def allow_pages(connection: Connection, count: int) -> None:
        connection.execute(text(f"PRAGMA max_page_count = {count}"))

    await database.write(lambda connection: allow_pages(connection, 1))  # what it has, no more
    answers = await asyncio.gather(
        *(store.create(new_job(prompt="p" * 10_000)) for _ in range(8)), return_exceptions=True
    )
    full = [answer for answer in answers if isinstance(answer, StorageFull)]
    assert full
    kept = {job.id for job in (await store.list()).jobs}
    assert kept == {first.id}
    await database.write(lambda connection: allow_pages(connection, 1_000_000))
    await store.create(new_job())


async def test_what_was_confirmed_survives_kill_9(url: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CREATE_FOR_EVER, url, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        confirmed = [(await process.stdout.readline()).decode().strip() for _ in range(50)]
    finally:
        process.kill()
        await process.communicate()
    database = Database.open(url)
    store = SqlJobStore(database)
    for job_id in confirmed:
        assert (await store.get(job_id)).id == job_id
        assert [event.number for event in await store.events(job_id)] == [1]
    await database.close()


async def test_one_that_fails_does_not_harm_those_that_share_its_transaction(
    database: Database,
) -> None:
    store = SqlJobStore(database)

    def break_off_half_way(connection: Connection) -> None:
        connection.execute(text("DELETE FROM jobs"))
        raise ZeroDivisionError

    answers = await asyncio.gather(
        *(store.create(new_job()) for _ in range(5)),
        database.write(break_off_half_way),
        *(store.create(new_job()) for _ in range(5)),
        return_exceptions=True,
    )
    assert [answer for answer in answers if isinstance(answer, Exception)] == [answers[5]]
    assert isinstance(answers[5], ZeroDivisionError)
    assert len((await store.list()).jobs) == 10


async def test_a_caller_that_goes_away_does_not_break_the_writer(database: Database) -> None:
    store = SqlJobStore(database)
    creating = [asyncio.create_task(store.create(new_job())) for _ in range(20)]
    await asyncio.sleep(0)
    for task in creating[::2]:
        task.cancel()
    await asyncio.gather(*creating, return_exceptions=True)
    await store.create(new_job())
    kept = {job.id for job in (await store.list()).jobs}
    assert {task.result().id for task in creating[1::2]} < kept


async def test_closing_writes_what_waits_and_leaves_no_thread(url: str) -> None:
    before = set(threading.enumerate())
    database = Database.open(url)
    store = SqlJobStore(database)
    creating = [asyncio.create_task(store.create(new_job())) for _ in range(20)]
    await asyncio.sleep(0)
    await database.close()
    assert len({job.id for job in await asyncio.gather(*creating)}) == 20
    assert set(threading.enumerate()) == before
    with pytest.raises(Unavailable, match="closed"):
        await store.create(new_job())


async def test_errors_do_not_tell_prompts(database: Database) -> None:
    await database.write(lambda connection: connection.execute(text("DROP TABLE events")))
    with pytest.raises(Unavailable) as caught:
        await SqlJobStore(database).create(new_job(prompt="a private wish", metadata={"s": "wish"}))
    error: BaseException | None = caught.value
    while error is not None:
        assert "wish" not in str(error)
        error = error.__cause__ or error.__context__
