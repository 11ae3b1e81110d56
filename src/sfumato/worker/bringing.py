"""Brings a run's models to this machine before the engine loads them, while other jobs go on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace

from sfumato.core.errors import EngineFailure, SfumatoError, Unavailable
from sfumato.core.models import ModelInfo
from sfumato.core.ports import Assignments, BytesProgress, ModelFiles
from sfumato.worker.run import Failed, JobRun

log = logging.getLogger(__name__)

#: Seconds between two reports of how much of a model is here.
_REPORT_INTERVAL = 0.5


class LocalModelFiles:
    """Implements :class:`sfumato.core.ports.ModelFiles` where every model is on disk already."""

    @contextlib.asynccontextmanager
    async def hold(
        self, models: Sequence[ModelInfo], progress: BytesProgress
    ) -> AsyncIterator[Sequence[ModelInfo]]:
        del progress
        yield models


@dataclass(slots=True)
class Bringing:
    """One run's model, and what its request uses beside it, on their way.

    Args:
        admit: hands the run to the engine.
    """

    run: JobRun
    files: ModelFiles
    assignments: Assignments
    admit: Callable[[JobRun], None]
    _fetched: tuple[int, int] | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def took_time(self) -> bool:
        """Whether anything had to be copied."""
        return self._fetched is not None

    async def until_cancelled(self) -> None:
        """Bring the models, admit the run, and keep their files from being deleted until this is
        cancelled. What goes wrong is posted to the run."""
        wanted = self.run.assignment
        reporting = asyncio.create_task(self._report())
        fetch = self.run.spans.part("fetch", {"sfumato.model": wanted.model.name})
        try:
            async with self.files.hold((wanted.model, *wanted.extras), self._progress) as here:
                fetch.end()
                reporting.cancel()
                model, *extras = here
                self.run.assignment = replace(wanted, model=model, extras=tuple(extras))
                self.admit(self.run)
                await asyncio.Event().wait()
        except SfumatoError as error:
            fetch.fail(error.code)
            self.run.post(Failed(error))
        except Exception as error:
            log.exception("the model of job %s did not come", self.run.job_id)
            self.run.post(Failed(EngineFailure(f"{type(error).__name__}: {error}")))
        finally:
            fetch.end()
            reporting.cancel()
            await asyncio.wait((reporting,))

    def _progress(self, done: int, total: int) -> None:
        if (done, total) != self._fetched:
            self._fetched = done, total
            self._news.set()

    async def _report(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self.assignments.loading(self.run.assignment, fetched=self._fetched)
            except Unavailable as error:
                log.warning("the loading of job %s was not told: %s", self.run.job_id, error)
            await asyncio.sleep(_REPORT_INTERVAL)
