"""What the engine's thread does, told as spans of the jobs it does it for, and in numbers."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from sfumato.core.ports import Clock, ColdPhase, Measures
from sfumato.worker.run import JobRun


class Stepped(NamedTuple):
    """Picture ``image`` of a run took a step. ``steps``: fewer than 0 where it goes back to be
    retried."""

    run: JobRun
    image: int
    steps: int


class EngineObserver:
    """Used on the engine's thread alone."""

    def __init__(self, clock: Clock, measures: Measures) -> None:
        self._clock = clock
        self._measures = measures
        self._cold = set(ColdPhase)

    @contextmanager
    def opening(self) -> Iterator[None]:
        """The engine is being made."""
        began = self._clock.monotonic()
        yield
        self._warmed(ColdPhase.ENGINE, self._clock.monotonic() - began)

    @contextmanager
    def loading(self, run: JobRun) -> Iterator[None]:
        """A run's models are brought into memory; all the same where that fails."""
        began = self._clock.monotonic()
        with run.spans.part("load", {"sfumato.model": run.assignment.model.name}):
            yield
        self._warmed(ColdPhase.MODEL, self._clock.monotonic() - began)

    @contextmanager
    def encoding(self, runs: Sequence[JobRun]) -> Iterator[None]:
        """The prompts of runs are read together, and what else they begin with."""
        with ExitStack() as spans:
            for run in runs:
                spans.enter_context(run.spans.part("encode", {"sfumato.jobs": len(runs)}))
            yield

    def stepped(
        self,
        pictures: Sequence[Stepped],
        *,
        key: Hashable,
        rows: int,
        row_limit: int,
        seconds: float,
    ) -> None:
        """A step of the batch is over. ``key``: what its slots had in common."""
        self._warmed(ColdPhase.FIRST_STEP, seconds)
        self._measures.stepped(slots=len(pictures), rows=rows, row_limit=row_limit, seconds=seconds)
        if not pictures[0].run.spans.wanted:
            return
        ended = self._clock.now()
        for picture in pictures:
            picture.run.spans.stepped(
                picture.image, key, steps=picture.steps, began=ended - seconds, ended=ended
            )

    def decoded(self, run: JobRun, image: int, *, seconds: float) -> None:
        """A picture of a run was decoded."""
        if run.spans.wanted:
            ended = self._clock.now()
            run.spans.over("decode", ended - seconds, ended, {"sfumato.image": image})

    def _warmed(self, phase: ColdPhase, seconds: float) -> None:
        if phase in self._cold:
            self._cold.remove(phase)
            self._measures.cold_start(phase, seconds)
