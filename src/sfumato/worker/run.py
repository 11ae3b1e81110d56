"""One assignment under way: what the engine's thread and the event loop tell each other of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field

from sfumato.core.errors import SfumatoError
from sfumato.core.models import ModelInfo, ModelKind
from sfumato.core.ports import (
    NO_TRACES,
    Assignment,
    EncodedImage,
    ImageTask,
    Progress,
    Revocation,
    Traces,
)
from sfumato.worker.spans import AttemptSpans

# -- what the engine's thread reports ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Loading:
    """The model has to be brought into memory first."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """Every slot of the job is in the batch. ``at``: monotonic seconds."""

    at: float


@dataclass(frozen=True, slots=True)
class ImageReady:
    image: EncodedImage
    notes: Sequence[str]
    at: float


@dataclass(frozen=True, slots=True)
class Failed:
    error: SfumatoError


@dataclass(frozen=True, slots=True)
class Exported:
    """The job left the batch with its state, because the worker drains."""

    slots: dict[int, bytes]


@dataclass(frozen=True, slots=True)
class ProgressMade:
    """``JobRun.progress`` is newer than what was reported."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """The job has left the batch, as was asked: the device does nothing more for it."""


Report = Loading | Admitted | ImageReady | Failed | Exported | Dropped | ProgressMade | Revocation


@dataclass(slots=True, eq=False)
class JobRun:
    """An assignment and its mailbox. The mailbox is filled on the event loop's thread only.

    ``gpu_ns``, how long the device was busy with it, is written by the engine's thread only. What
    is read of it when a report comes is what it was when that was posted, or later.

    Progress is kept as the latest value beside the mailbox, so that a slow store sees fewer
    reports, not a longer queue of them.
    """

    assignment: Assignment
    claimed_at: float
    traces: InitVar[Traces] = NO_TRACES
    mailbox: asyncio.Queue[Report] = field(default_factory=asyncio.Queue)
    progress: Progress | None = None
    gpu_ns: int = 0
    spans: AttemptSpans = field(init=False)
    _progress_posted: bool = False

    def __post_init__(self, traces: Traces) -> None:
        self.spans = AttemptSpans(self.assignment.job, traces)

    @property
    def job_id(self) -> str:
        return self.assignment.job.id

    @property
    def models(self) -> tuple[ModelInfo, ...]:
        """The models that draw its pictures: its own, and a refiner."""
        bases = (extra for extra in self.assignment.extras if extra.kind is ModelKind.BASE)
        return (self.assignment.model, *bases)

    def tasks(self) -> list[ImageTask]:
        """One task a picture of the job."""
        job, assignment = self.assignment.job, self.assignment
        return [
            ImageTask(
                job.id,
                index,
                job.request,
                job.settings,
                assignment.model,
                job.notes,
                assignment.extras,
                assignment.inputs,
            )
            for index in range(job.request.num_images)
        ]

    @property
    def gpu_seconds(self) -> float:
        return self.gpu_ns / 1e9

    def post(self, report: Report) -> None:
        self.mailbox.put_nowait(report)

    def post_progress(self, progress: Progress) -> None:
        if progress.preview is None and self._progress_posted and self.progress is not None:
            # A preview that was not reported yet stays with the newer count.
            progress = Progress(
                progress.step, progress.steps, self.progress.preview, self.progress.preview_image
            )
        self.progress = progress
        if not self._progress_posted:
            self._progress_posted = True
            self.mailbox.put_nowait(ProgressMade())

    def take_progress(self) -> Progress | None:
        self._progress_posted = False
        return self.progress
