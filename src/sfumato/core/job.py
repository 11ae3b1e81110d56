"""The life of one request, and the only table of legal transitions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from sfumato.core.charges import NOTHING, Charge
from sfumato.core.errors import SfumatoError
from sfumato.core.request import Determinism, GenerationRequest, OutputFormat
from sfumato.core.safety import Safety


class JobStatus(StrEnum):
    QUEUED = "queued"  #: waits for a worker
    RUNNING = "running"  #: a worker holds the current attempt
    SUCCEEDED = "succeeded"  #: every picture is stored
    FAILED = "failed"  #: ended with an error; can be redriven
    CANCELED = "canceled"  #: the caller took it back

    @property
    def finished(self) -> bool:
        return not TRANSITIONS[self]


#: status -> the statuses that may follow it. ``running -> queued`` is a lost or released attempt.
TRANSITIONS: Mapping[JobStatus, frozenset[JobStatus]] = {
    JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.FAILED, JobStatus.CANCELED}),
    JobStatus.RUNNING: frozenset(
        {JobStatus.QUEUED, JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELED}
    ),
    JobStatus.SUCCEEDED: frozenset(),
    JobStatus.FAILED: frozenset(),
    JobStatus.CANCELED: frozenset(),
}


class AttemptOutcome(StrEnum):
    """How an attempt ended. ``released`` (a drain) and ``lost`` (a crash) are not the job's fault."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    RELEASED = "released"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Settings:
    """What was used for a job, with every default filled in.

    Attributes:
        width, height: size of the picture that is delivered, in pixels.
        render_width, render_height: size that the model draws at; the picture is resampled
            from it when the two differ.
        seed: of the first image; image ``n`` uses ``seed + n`` (modulo 2**64).
        schedule: the noise levels that the sampler visits; None: its own custom.
        strength: how much of the request's picture is drawn anew; None: it brings none.
        safety: what becomes of pictures that are found unsafe.
        safety_checker: the catalogue's that looks; None: the one in the model's own folder.
    """

    model: str
    width: int
    height: int
    render_width: int
    render_height: int
    num_inference_steps: int
    guidance_scale: float
    sampler: str
    seed: int
    schedule: str | None = None
    strength: float | None = None
    determinism: Determinism = Determinism.FAST
    safety: Safety = Safety.OFF
    safety_checker: str | None = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Settings:
        """From plain data, as ``asdict`` makes it."""
        named = {
            "determinism": Determinism(data.get("determinism", Determinism.FAST)),
            "safety": Safety(data.get("safety", Safety.OFF)),
        }
        return cls(**{**data, **named})

    @property
    def resampled(self) -> bool:
        return (self.width, self.height) != (self.render_width, self.render_height)

    def image_seed(self, index: int) -> int:
        """Seed of image ``index`` (from 0), in 0 .. 2**64 - 1."""
        return (self.seed + index) % 2**64


@dataclass(frozen=True, slots=True)
class Timings:
    """Where a job's seconds went, over its last attempt.

    ``queued`` + ``starting`` + ``loading`` + ``denoising`` + ``storing`` add up to the time from
    submission to the stored picture, but for earlier attempts, which count as ``queued``.
    """

    queued: float = 0.0
    starting: float = 0.0
    loading: float = 0.0
    denoising: float = 0.0
    storing: float = 0.0


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """A stored picture. ``key`` derives from the job's id, so storing it twice writes one object."""

    index: int
    key: str
    media_type: str
    width: int
    height: int
    size_bytes: int
    sha256: str
    seed: int


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed: the stable code of :mod:`sfumato.core.errors` and words for a person."""

    code: str
    message: str

    @classmethod
    def of(cls, error: SfumatoError) -> JobError:
        return cls(error.code, error.message)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a job by one worker. ``number`` (from 1) is the fencing token."""

    number: int
    worker: str
    started_at: float
    ended_at: float | None = None
    outcome: AttemptOutcome | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the store knows it. Times are seconds since the epoch, UTC.

    Attributes:
        attempt: number of the current or last attempt; 0 before the first.
        lease_until: until when its worker meant to hold the current attempt, by that worker's
            clock; None unless running.
        rung_at: when the doorbell was last rung for it.
        notes: what the caller should know: words the model does not know, brackets without a
            partner in the prompt, a resampled size.
        owner: id of the key that made it; None where none was asked for.
        charge: what its attempts took so far; each is added when it ends. One that was lost is not,
            as nobody knows what it took.
        checkpoint: key prefix below which a released attempt's slots lie, if there are any.
    """

    id: str
    request: GenerationRequest
    settings: Settings
    runtime: str
    status: JobStatus
    created_at: float
    rung_at: float
    started_at: float | None = None
    finished_at: float | None = None
    attempt: int = 0
    failures: int = 0
    losses: int = 0
    worker: str | None = None
    lease_until: float | None = None
    cancel_requested: bool = False
    images: tuple[ImageRecord, ...] = ()
    error: JobError | None = None
    timings: Timings = field(default_factory=Timings)
    notes: tuple[str, ...] = ()
    checkpoint: str | None = None
    traceparent: str | None = None
    owner: str | None = None
    charge: Charge = NOTHING

    def may_become(self, status: JobStatus) -> bool:
        return status in TRANSITIONS[self.status]

    def becoming(self, status: JobStatus, **changes: Any) -> Job:
        """A copy in the next status.

        Raises:
            ValueError: the table of transitions does not allow it; always a defect of ours.
        """
        if not self.may_become(status):
            raise ValueError(f"job {self.id}: {self.status} -> {status} is not a legal transition")
        return replace(self, status=status, **changes)


def image_key(job_id: str, index: int, output_format: OutputFormat) -> str:
    """Object key of picture ``index`` of a job; the same at every attempt."""
    return f"jobs/{job_id}/{index}.{output_format.extension}"


def recipe_key(job_id: str) -> str:
    """Object key of the JSON twin of the recipe, beside the pictures."""
    return f"jobs/{job_id}/{job_id}.json"


def checkpoint_prefix(job_id: str) -> str:
    """Below this lie the exported slots of a released attempt. All checkpoints lie apart from the
    pictures, so that a rule of the bucket can name them."""
    return f"checkpoints/{job_id}/"


def checkpoint_key(job_id: str, index: int) -> str:
    """Object key of the exported slot of image ``index``."""
    return f"{checkpoint_prefix(job_id)}{index}.safetensors"
