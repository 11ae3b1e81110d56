"""What came of it, seen from outside: the tables, the bucket and the queue, without our own code."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

from tests.chaos.setups import Setup

FINAL = ("succeeded", "failed", "canceled")


@dataclass
class Verdict:
    """The counts of one set-up, and of each that is not zero what was seen.

    ``checkpoints``: objects that were kept for an attempt that never came.
    """

    jobs: int = 0
    lost: int = 0
    doubled: int = 0
    stuck: int = 0
    failed_without_reason: int = 0
    checkpoints: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.lost or self.doubled or self.stuck or self.failed_without_reason)

    def counts(self) -> dict[str, int]:
        return {
            name: getattr(self, name)
            for name in ("jobs", "lost", "doubled", "stuck", "failed_without_reason")
        }

    def note(self, count: str, finding: str) -> None:
        setattr(self, count, getattr(self, count) + 1)
        self.findings.append(f"{count}: {finding}")


class Books:
    """The database, read with SQL of our own."""

    def __init__(self, setup: Setup) -> None:
        url = setup.database_url.replace("postgresql://", "postgresql+psycopg://", 1)
        self._engine: Engine = create_engine(url)

    async def rows(self, query: str) -> list[Mapping[str, Any]]:
        return await asyncio.to_thread(self._rows, query)

    async def unfinished(self) -> int:
        query = f"SELECT count(*) AS n FROM jobs WHERE status NOT IN {FINAL}"  # noqa: S608
        try:
            return int((await self.rows(query))[0]["n"])
        except DBAPIError:  # it is away just now
            return -1

    async def rings(self) -> int:
        return int((await self.rows("SELECT count(*) AS n FROM rings"))[0]["n"])

    def close(self) -> None:
        self._engine.dispose()

    def _rows(self, query: str) -> list[Mapping[str, Any]]:
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(text(query)).mappings()]


async def rings_left(setup: Setup, books: Books) -> dict[str, int]:
    """Messages by queue, where there are any."""
    if setup.rings is None:
        found = {"rings": await books.rings()}
    else:
        found = {name: count async for name, count in setup.rings()}
    return {name: count for name, count in found.items() if count}


async def verify(
    setup: Setup, books: Books, accepted: Mapping[str, set[str]], rings: Mapping[str, int]
) -> Verdict:
    """Compare what was promised with what is there."""
    verdict = Verdict(jobs=len(accepted))
    jobs = {row["id"]: row for row in await books.rows("SELECT * FROM jobs")}
    events = defaultdict(list)
    for row in await books.rows("SELECT * FROM events ORDER BY job_id, number"):
        events[row["job_id"]].append(row)
    attempts = defaultdict(list)
    for row in await books.rows("SELECT * FROM attempts ORDER BY job_id, number"):
        attempts[row["job_id"]].append(row)
        verdict.attempts[row["outcome"] or "open"] += 1
    objects: dict[str, dict[str, str]] = defaultdict(dict)
    async for key, digest in setup.objects():
        objects[key.split("/")[1] if key.count("/") >= 2 else key][key] = digest

    _check_promises(verdict, accepted, jobs.keys(), objects)
    for job_id, job in jobs.items():
        verdict.statuses[job["status"]] += 1
        _check_status(verdict, job)
        _check_events(verdict, job, events[job_id])
        _check_attempts(verdict, job, attempts[job_id])
        _check_objects(verdict, job, objects.get(job_id, {}))
    _check_pixels(verdict, jobs)
    for name, count in rings.items():
        verdict.note("stuck", f"{count} message(s) in the queue {name}")
    return verdict


def _check_promises(
    verdict: Verdict,
    accepted: Mapping[str, set[str]],
    jobs: AbstractSet[str],
    objects: Mapping[str, Mapping[str, str]],
) -> None:
    """One job a key, every one of them in the store, and nothing that nobody asked for."""
    promised = set[str]().union(*accepted.values())
    for key, ids in accepted.items():
        if len(ids) > 1:
            verdict.note("doubled", f"the key {key} was answered with {sorted(ids)}")
    for job_id in promised - jobs:
        verdict.note("lost", f"job {job_id} was accepted and is not in the store")
    for job_id in jobs - promised:
        verdict.note("doubled", f"job {job_id} was never answered to anybody")
    for job_id in objects.keys() - jobs:
        verdict.note("doubled", f"{sorted(objects[job_id])} belong to no job")


def _check_status(verdict: Verdict, job: Mapping[str, Any]) -> None:
    if job["status"] not in FINAL:
        verdict.note("stuck", f"job {job['id']} is {job['status']}, attempt {job['attempt']}")
    if job["status"] == "failed":
        error = json.loads(job["error"] or "{}")
        code, message = error.get("code"), error.get("message")
        verdict.reasons[f"{code}: {message}"] += 1
        if not message or code in (None, "internal_error"):
            verdict.note("failed_without_reason", f"job {job['id']}: {job['error']}")


def _check_events(
    verdict: Verdict, job: Mapping[str, Any], events: list[Mapping[str, Any]]
) -> None:
    numbers, kinds = [event["number"] for event in events], [event["kind"] for event in events]
    if numbers != list(range(1, job["last_event"] + 1)):
        verdict.note("lost", f"the events of job {job['id']} have gaps: {numbers}")
    ends = [kind for kind in kinds if kind in FINAL]
    if ends != ([job["status"]] if job["status"] in FINAL else []):
        verdict.note("doubled", f"job {job['id']} is {job['status']}, and ended as {ends}")
    if ends and kinds[-1] != ends[-1]:
        verdict.note("doubled", f"something happened to job {job['id']} after its end: {kinds}")
    told: set[int] = set()
    for event in events:
        if event["kind"] == "started":
            told.clear()
        elif event["kind"] == "image":
            index = json.loads(event["data"])["index"]
            if index in told:
                verdict.note("doubled", f"an attempt of job {job['id']} told twice of {index}")
            told.add(index)


def _check_attempts(
    verdict: Verdict, job: Mapping[str, Any], attempts: list[Mapping[str, Any]]
) -> None:
    numbers = [attempt["number"] for attempt in attempts]
    if numbers != list(range(1, job["attempt"] + 1)):
        verdict.note("lost", f"the attempts of job {job['id']} have gaps: {numbers}")
    good = [attempt for attempt in attempts if attempt["outcome"] == "succeeded"]
    if len(good) != (job["status"] == "succeeded"):
        verdict.note("doubled", f"{len(good)} attempts of job {job['id']} succeeded")
    if job["status"] in FINAL and any(attempt["outcome"] is None for attempt in attempts):
        verdict.note("stuck", f"job {job['id']} has ended, an attempt of it has not")


def _check_objects(verdict: Verdict, job: Mapping[str, Any], objects: Mapping[str, str]) -> None:
    """Exactly the documented keys; a job that did not succeed may have some of them."""
    job_id = job["id"]
    wanted = json.loads(job["request"])["num_images"]
    pictures = {f"jobs/{job_id}/{index}.png" for index in range(wanted)}
    expected = pictures | {f"jobs/{job_id}/{job_id}.json"}
    checkpoints = {key for key in objects if key.startswith(f"checkpoints/{job_id}/")}
    verdict.checkpoints += len(checkpoints)
    for key in objects.keys() - expected - checkpoints:
        verdict.note("doubled", f"{key} should not be there")
    if job["status"] != "succeeded":
        return
    for key in expected - objects.keys():
        verdict.note("lost", f"{key} is not there")
    told = {image["key"]: image["sha256"] for image in json.loads(job["images"])}
    if told.keys() != pictures:
        verdict.note("lost", f"job {job_id} tells of {sorted(told)}")
    for key, digest in told.items():
        if objects.get(key, digest) != digest:
            verdict.note("lost", f"{key} is not the picture that the job tells of")


def _check_pixels(verdict: Verdict, jobs: Mapping[str, Mapping[str, Any]]) -> None:
    """Whatever happened on the way, equal requests end with equal pictures."""
    seen: dict[tuple[object, ...], tuple[str, str]] = {}
    for job_id, job in jobs.items():
        asked = json.loads(job["request"])
        for image in json.loads(job["images"]):
            what = (asked["prompt"], asked["num_inference_steps"], image["seed"])
            first, digest = seen.setdefault(what, (job_id, image["sha256"]))
            if image["sha256"] != digest:
                verdict.note("lost", f"jobs {first} and {job_id} drew different pictures of {what}")
