"""What a batch makes of a service that is full, of jobs that failed before, and of another batch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from sfumato.cli.batches.ledger import Ledger
from sfumato.cli.batches.lines import Line, read_lines
from sfumato.cli.batches.running import Batch, Outcome
from sfumato.client import AsyncClient, Overloaded, Unauthorized, Unreachable
from sfumato.core.errors import Conflict
from tests.integration.client.scripted import JOB_ID, PICTURE, Exchange, Service, job_json

DIGEST = hashlib.sha256(PICTURE).hexdigest()


def lines(*prompts: str) -> list[Line]:
    text = "\n".join(json.dumps({"prompt": prompt}) for prompt in prompts)
    found = read_lines(text.encode(), name="prompts.jsonl", folder=Path())
    return [line for line in found if isinstance(line, Line)]


@pytest.fixture
async def client(service: Service) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(service.url, retries=0) as opened:
        yield opened


async def drawn(client: AsyncClient, folder: Path, *prompts: str) -> list[Outcome]:
    told: list[Outcome] = []
    with Ledger.held(folder) as ledger:
        left = [line for line in lines(*prompts) if not ledger.done(line.identity)]
        await Batch(client, ledger, folder, told.append).run(left, concurrency=1)
    return told


def pictures(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.png"))


def submissions(service: Service) -> list[str]:
    """The idempotency keys, in order."""
    return [each.headers["Idempotency-Key"] for each in service.requests if each.method == "POST"]


async def test_a_service_that_is_full_is_waited_for(
    service: Service, client: AsyncClient, tmp_path: Path
) -> None:
    service.script = [
        lambda exchange: exchange.problem(429, "overloaded", headers={"Retry_After": "0"})
    ]
    (outcome,) = await drawn(client, tmp_path, "a castle")
    assert outcome.error is None
    assert len(set(submissions(service))) == 1
    assert len(submissions(service)) == 2


@pytest.mark.parametrize(
    ("act", "kind"),
    [
        (
            lambda exchange: exchange.problem(
                429, "quota_exceeded", headers={"Retry_After": "40000"}
            ),
            Overloaded,
        ),
        (lambda exchange: exchange.problem(401, "unauthorized"), Unauthorized),
        (Exchange.drop, Unreachable),
    ],
)
async def test_what_is_wrong_with_every_line_ends_the_run_and_the_next_goes_on(
    service: Service,
    client: AsyncClient,
    tmp_path: Path,
    act: Callable[[Exchange], None],
    kind: type[Exception],
) -> None:
    service.script = [act]
    with pytest.raises(kind):
        await drawn(client, tmp_path, "a castle", "a sea")
    assert len(submissions(service)) == 1
    assert [each.error for each in await drawn(client, tmp_path, "a castle", "a sea")] == [None] * 2
    assert submissions(service)[0] == submissions(service)[1], "the job it may have made is found"


async def test_a_line_that_failed_is_drawn_by_another_job(
    service: Service, client: AsyncClient, tmp_path: Path
) -> None:
    error = {"code": "out_of_memory", "message": "The GPU is full."}
    failed = job_json(status="failed", error=error, images=[])
    stream = [service.usual, lambda e: e.answer(204), lambda e: e.answer(200, failed)]
    service.script = list(stream)
    (first,) = await drawn(client, tmp_path, "a castle")
    assert first.error is not None
    assert first.error["code"] == "out_of_memory"
    service.script = [lambda exchange: exchange.answer(200, failed)]
    (second,) = await drawn(client, tmp_path, "a castle")
    assert second.error is None
    before, found, other = submissions(service)
    assert before == found != other
    assert await drawn(client, tmp_path, "a castle") == []


async def test_a_file_that_was_written_but_not_recorded_is_taken(
    service: Service, client: AsyncClient, tmp_path: Path
) -> None:
    seed = 2**64 - 1
    mine, ours = tmp_path / f"0001-a-castle-{seed}.png", tmp_path / f"0001-a-castle-{seed}-2.png"
    mine.write_bytes(b"of somebody else")
    ours.write_bytes(PICTURE)
    images = [{**job_json()["images"][0], "sha256": DIGEST}]
    service.script = [lambda exchange: exchange.answer(200, job_json(images=images))]
    (outcome,) = await drawn(client, tmp_path, "a castle")
    assert [file["name"] for file in outcome.files] == [ours.name]
    assert mine.read_bytes() == b"of somebody else"
    assert pictures(tmp_path) == [ours, mine]


async def test_a_file_that_was_deleted_is_fetched_again_from_its_job(
    service: Service, client: AsyncClient, tmp_path: Path
) -> None:
    await drawn(client, tmp_path, "a castle")
    (path,) = pictures(tmp_path)
    path.unlink()
    await drawn(client, tmp_path, "a castle")
    assert path.read_bytes() == PICTURE
    assert len(set(submissions(service))) == 1
    assert all(JOB_ID in each.path for each in service.requests if each.method == "GET")


def test_two_batches_do_not_write_into_one_folder(tmp_path: Path) -> None:
    with (
        Ledger.held(tmp_path),
        pytest.raises(Conflict, match="Another batch"),
        Ledger.held(tmp_path),
    ):
        pass


def test_another_folder_is_another_batch(tmp_path: Path) -> None:
    names = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        with Ledger.held(folder) as ledger:
            names.append(ledger.batch)
        with Ledger.held(folder) as again:
            assert again.batch == names[-1]
    assert names[0] != names[1]
