"""Drawing a batch: a fixed number of lines under way at once, and each drawn once only.

The job of a line has an idempotency key that the next run makes again. A run that was killed leaves
its jobs at the service; the next one finds them by their keys, and draws nothing twice.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato.cli.batches.ledger import Ledger
from sfumato.cli.batches.lines import Line
from sfumato.cli.naming import candidates
from sfumato.cli.output import error_facts
from sfumato.client import (
    AsyncClient,
    ClientError,
    Conflict,
    Forbidden,
    Generation,
    Image,
    InvalidRequest,
    Job,
    JobFailed,
    NotFound,
    Overloaded,
    ServiceFailed,
)
from sfumato.client.wire import finished
from sfumato.core.job import JobStatus

#: What is wrong with one line; every other error is wrong with all of them and ends the run.
_OF_A_LINE = (InvalidRequest, NotFound, Forbidden, Conflict, ServiceFailed, JobFailed)
#: Seconds that a service may ask us to wait for room before the run ends, to be gone on with later.
_PATIENCE = 300.0
#: How often a line may have failed in earlier runs before its last failure counts.
_TRIES = 100


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a line: its files, or the facts of an error.

    Attributes:
        files: ``name`` and ``seed`` of each.
    """

    line: Line
    files: Sequence[dict[str, Any]] = ()
    error: dict[str, Any] | None = None


class Batch:
    """One run over the lines that are left.

    Args:
        told: called with each outcome, once it is recorded.
    """

    def __init__(
        self, client: AsyncClient, ledger: Ledger, folder: Path, told: Callable[[Outcome], None]
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._folder = folder
        self._told = told
        self._broken = False

    async def run(self, lines: Sequence[Line], *, concurrency: int) -> None:
        """Draw the lines, so many at once. Interrupted, it cancels those under way.

        Raises:
            ClientError: the service is gone, full for long, or knows no such key.
            OSError: a picture can't be written.
        """
        waiting = iter(lines)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(concurrency, len(lines))):
                    group.create_task(self._work(waiting))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _work(self, waiting: Iterator[Line]) -> None:
        try:
            for line in waiting:
                self._settle(await self._draw(line))
        except Exception:
            self._broken = True
            raise

    def _settle(self, outcome: Outcome) -> None:
        line = outcome.line
        said: dict[str, Any] = {"files": outcome.files}
        if outcome.error is not None:
            said = {"error": outcome.error}
        status = "succeeded" if outcome.error is None else "failed"
        self._ledger.record(line.identity, line=line.number, status=status, **said)
        self._told(outcome)

    async def _draw(self, line: Line) -> Outcome:
        try:
            job = await self._succeeded(line)
        except _OF_A_LINE as error:
            return Outcome(line, error=error_facts(error))
        except OSError as error:  # of a picture that the line names
            return Outcome(line, error=error_facts(error))
        generation = await self._client.fetch(job)
        return Outcome(line, await asyncio.to_thread(self._save, line, generation))

    async def _succeeded(self, line: Line) -> Job:
        """The line's job, once it has succeeded. Raises ``JobFailed`` when it has not."""
        job = await self._submit(line, 0)
        # One that had ended otherwise before is of an earlier run, and another takes its place.
        tries = 0
        while job.status in (JobStatus.FAILED, JobStatus.CANCELED) and tries < _TRIES:
            tries += 1
            job = await self._submit(line, tries)
        try:
            return finished(job if job.status.finished else await self._client.wait(job.id))
        except asyncio.CancelledError:
            if not self._broken:
                with suppress(ClientError):
                    await self._client.cancel(job.id)
            raise

    async def _submit(self, line: Line, tries: int) -> Job:
        named = f"{self._ledger.batch} {line.identity} {tries}"
        key = f"batch-{hashlib.sha256(named.encode()).hexdigest()[:40]}"
        while True:
            try:
                return await self._client.submit(line.prompt, idempotency_key=key, **line.options)
            except Overloaded as error:
                if error.retry_after is None or error.retry_after > _PATIENCE:
                    raise
                await asyncio.sleep(max(1.0, error.retry_after))

    def _save(self, line: Line, generation: Generation) -> list[dict[str, Any]]:
        return [
            {"name": self._saved(line, image), "seed": image.seed} for image in generation.images
        ]

    def _saved(self, line: Line, image: Image) -> str:
        """The name of the file, which a run that was killed may have written already."""
        for name in candidates(line.prompt, image.seed, image.extension):
            path = self._folder / f"{line.number:04}-{name}"
            if not path.exists():
                image.save(path, overwrite=True)  # whole or not at all, however this ends
                return path.name
            if hashlib.sha256(path.read_bytes()).hexdigest() == image.info.sha256:
                return path.name
        raise AssertionError  # pragma: no cover - there is always another name
