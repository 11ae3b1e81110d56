"""What workers elsewhere send and get, as pydantic models. ``adapters/remote`` is the other side."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from sfumato.core import request as core
from sfumato.core.job import ImageRecord, Timings
from sfumato.services.remote_work import AttemptRef, Hold

#: Limits of what one worker may send in one call.
MAX_HOLDING = 1024
MAX_NOTES, MAX_NOTE = 64, 2000
MAX_PREVIEW = 128 * 1024
MAX_STEPS = core.MAX_IMAGES * core.MAX_STEPS
MAX_WAIT_SECONDS = 30.0

Count = Annotated[int, Field(ge=0, lt=2**63)]
Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Index = Annotated[int, Field(ge=0, lt=core.MAX_IMAGES)]
ImageType = Annotated[str, Field(pattern="^image/(png|jpeg|webp)$")]
Wait = Annotated[float, Field(ge=0, le=MAX_WAIT_SECONDS, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Greeting(BaseModel):
    """What a worker learns when it comes."""

    worker: str = Field(description="What the worker is called here.")
    token: str = Field(description="The token's id.")
    runtimes: list[str] = Field(description="The pools that the token is for.")
    lease: float = Field(description="Seconds for which an attempt is held without a heartbeat.")
    now: float = Field(description="The service's clock, in seconds since the epoch.")


class Attempted(_Strict):
    """An attempt that the worker holds."""

    job_id: Annotated[str, Field(max_length=64)]
    attempt: Annotated[int, Field(ge=1, lt=2**31)]

    def ref(self) -> AttemptRef:
        return AttemptRef(self.job_id, self.attempt)


Holding = Annotated[list[Attempted], Field(max_length=MAX_HOLDING)]


class Claim(_Strict):
    runtime: Annotated[str, Field(max_length=200)]
    wait: Wait = 0.0
    holding: Holding = Field(
        default_factory=list,
        description="What it holds already: a job that it won and is not named here is answered "
        "again, for the first answer got lost.",
    )


class Claimed(BaseModel):
    job: dict[str, Any]
    model: dict[str, Any]
    extras: list[dict[str, Any]] = Field(description="The other weights that the request names.")
    checkpoint: list[str] = Field(
        repr=False,
        description="URLs of the images' states, by index; empty: every image starts anew. One "
        "that is not found starts anew too.",
    )
    inputs: dict[str, str] = Field(
        repr=False, description="URLs of the pictures that the job brought along, by SHA-256."
    )


class Heartbeat(_Strict):
    holding: Holding


class HeartbeatAnswer(BaseModel):
    states: list[Hold] = Field(description="In the order asked for.")


class Watch(_Strict):
    wait: Wait = 0.0


class WatchAnswer(BaseModel):
    revocation: str | None


class Presence(_Strict):
    """What a worker tells of itself."""

    runtime: Annotated[str, Field(max_length=200)]
    device: Annotated[str, Field(max_length=200)]
    models: Annotated[
        list[Annotated[str, Field(max_length=200)]], Field(max_length=64, default_factory=list)
    ]
    started_at: Annotated[float, Field(ge=0, lt=1e11, allow_inf_nan=False)]


class Leaving(_Strict):
    holding: Holding = Field(default_factory=list)


class Loading(_Strict):
    fetched: tuple[Count, Count] | None = Field(
        None, description="Bytes on the worker's disk, and of the whole model; none: into memory."
    )


class Report(_Strict):
    step: Annotated[int, Field(ge=0, le=MAX_STEPS)]
    steps: Annotated[int, Field(ge=0, le=MAX_STEPS)]
    preview: Annotated[str, Field(max_length=MAX_PREVIEW, pattern="^data:image/")] | None = None
    preview_image: Index = 0


class UploadRequest(_Strict):
    media_type: ImageType


class Upload(BaseModel):
    """Where to PUT the bytes: at once, for the URL is good for some minutes and is a secret."""

    url: str = Field(repr=False)
    headers: dict[str, str]


class Stored(_Strict):
    size_bytes: Count


class FinishedImage(_Strict):
    index: Index
    media_type: ImageType
    width: Annotated[int, Field(ge=1, le=2**16)]
    height: Annotated[int, Field(ge=1, le=2**16)]
    size_bytes: Count
    sha256: Sha256
    seed: Annotated[int, Field(ge=0, lt=2**64)]

    def record(self) -> ImageRecord:
        return ImageRecord(key="", **dict(self))


class Spent(_Strict):
    queued: Seconds = 0.0
    starting: Seconds = 0.0
    loading: Seconds = 0.0
    denoising: Seconds = 0.0
    storing: Seconds = 0.0

    def timings(self) -> Timings:
        return Timings(**dict(self))


GpuSeconds = Annotated[
    Seconds, Field(description="For how long the device was busy with the attempt.")
]


class Completion(_Strict):
    images: Annotated[list[FinishedImage], Field(min_length=1, max_length=core.MAX_IMAGES)]
    timings: Spent
    notes: Annotated[
        list[Annotated[str, Field(max_length=MAX_NOTE)]],
        Field(max_length=MAX_NOTES, default_factory=list),
    ]
    recipe: dict[str, Any]
    gpu_seconds: GpuSeconds | None = None


class FailureReport(_Strict):
    code: Annotated[str, Field(pattern="^[a-z][a-z_]{0,63}$")]
    message: Annotated[str, Field(max_length=MAX_NOTE)]
    retryable: bool
    gpu_seconds: GpuSeconds = 0.0


class Stopped(_Strict):
    gpu_seconds: GpuSeconds = 0.0


class Release(_Strict):
    reason: Annotated[str, Field(max_length=200)]
    resumable: bool = Field(description="Whether states were uploaded for others to resume.")
    gpu_seconds: GpuSeconds = 0.0


class Accepted(BaseModel):
    accepted: bool = Field(description="False: the attempt was lost; nothing was changed.")


class ModelFileView(BaseModel):
    path: str
    size_bytes: int
    sha256: str = Field(description="In hex; empty where it is not known.")
    version: str = Field(description="Tells contents of one name apart where no digest does.")
    url: str = Field(
        repr=False, description="Answers byte ranges. Good for some minutes, and a secret."
    )


class ModelFilesView(BaseModel):
    name: str
    files: list[ModelFileView]
