"""The spans of one attempt: load, encode, denoise, decode, store, finish, below the attempt's own."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from sfumato.core.current import trace_id_of
from sfumato.core.job import Job
from sfumato.core.ports import Attributes, Span, SpanKind, Traces


@dataclass(slots=True)
class _Stage:
    """The steps of a job's pictures in one stage. Times are seconds since the epoch."""

    began: float
    ended: float
    steps: int = 0
    images: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Place:
    """Where a picture is: how many stages came before, and the batch key that tells the stage."""

    stage: int
    key: Hashable


class AttemptSpans:
    """Begun when the job was claimed.

    The event loop and the engine's thread both use it; what they begin are spans of their own.
    """

    def __init__(self, job: Job, traces: Traces) -> None:
        self._traces = traces
        self._job = job
        self._stages: dict[int, _Stage] = {}
        self._places: dict[int, _Place] = {}
        self.attempt = traces.span(
            "attempt",
            parent=job.traceparent,
            kind=SpanKind.CONSUMER,
            attributes={
                "sfumato.job": job.id,
                "sfumato.attempt": job.attempt,
                "sfumato.runtime": job.runtime,
                "sfumato.model": job.settings.model,
            },
        )

    @property
    def wanted(self) -> bool:
        return self._traces.wanted

    @property
    def traceparent(self) -> str | None:
        """Of the attempt, or at least of the job."""
        return self.attempt.traceparent or self._job.traceparent

    @property
    def log_fields(self) -> dict[str, str]:
        """For log lines of the engine's thread, which works on many jobs at once."""
        trace_id = trace_id_of(self.traceparent)
        return {"job": self._job.id, **({} if trace_id is None else {"trace_id": trace_id})}

    def part(self, name: str, attributes: Attributes | None = None) -> Span:
        """Begin a part of the attempt."""
        return self._traces.span(name, parent=self.traceparent, attributes=attributes)

    def over(self, name: str, began: float, ended: float, attributes: Attributes) -> None:
        """A part that is over. Times are seconds since the epoch."""
        span = self._traces.span(name, parent=self.traceparent, attributes=attributes, at=began)
        span.end(at=ended)

    def stepped(self, image: int, key: Hashable, *, steps: int, began: float, ended: float) -> None:
        """A picture took a step. Its batch key is another in each of its stages."""
        place = self._places.get(image)
        if place is None:
            place = self._places[image] = _Place(0, key)
        elif place.key != key:
            place.stage, place.key = place.stage + 1, key
        stage = self._stages.get(place.stage)
        if stage is None:
            stage = self._stages[place.stage] = _Stage(began, ended)
        stage.ended = ended
        stage.steps += steps
        stage.images.add(image)

    def denoised(self) -> None:
        """The job has left the batch: tell of each stage that its pictures went through."""
        for number, stage in sorted(self._stages.items()):
            attributes = {
                "sfumato.stage": number,
                "sfumato.steps": stage.steps,
                "sfumato.images": len(stage.images),
            }
            self.over("denoise", stage.began, stage.ended, attributes)
        self._stages.clear()
