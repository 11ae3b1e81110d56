"""What the native API answers, as pydantic models: what ``/docs`` shows and what goes over the wire."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from sfumato.api.requested import Requested
from sfumato.core.job import Job, JobStatus
from sfumato.core.models import ModelInfo, ModelKind
from sfumato.core.request import Determinism
from sfumato.core.runtimes import Runtime
from sfumato.core.safety import Safety

#: Whose models these are, for OpenAI's clients.
OWNER = "sfumato"


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


#: Seconds since the epoch in the core, ISO 8601 in UTC on the wire.
Moment = Annotated[
    float,
    PlainSerializer(_iso, return_type=str),
    Field(json_schema_extra={"type": "string", "format": "date-time"}),
]


class Used(BaseModel):
    """What was used, with every default filled in."""

    model_config = ConfigDict(from_attributes=True)

    model: str
    width: int
    height: int
    render_width: int = Field(
        description="What the model draws at; the picture is resampled when it differs from width."
    )
    render_height: int
    num_inference_steps: int
    guidance_scale: float
    sampler: str
    schedule: str | None = Field(description="null: the sampler's own custom.")
    seed: int = Field(description="Of the first image. Up to 2^64-1: mind JavaScript's numbers.")
    strength: float | None = Field(
        description="How much of the picture that was brought is drawn anew; null: there is none."
    )
    determinism: Determinism
    safety: Safety = Field(
        description="What becomes of pictures that a safety checker finds unsafe; the operator's."
    )


class Failure(BaseModel):
    """Why a job failed. ``code`` is stable."""

    model_config = ConfigDict(from_attributes=True)

    code: str = Field(examples=["out_of_memory"])
    message: str


class Image(BaseModel):
    """A finished picture; its bytes lie at ``url``."""

    index: int
    url: str = Field(examples=["/v1/jobs/01k…/images/0"])
    media_type: str = Field(examples=["image/png"])
    width: int
    height: int
    size_bytes: int
    sha256: str
    seed: int


class TimingsView(BaseModel):
    """Seconds of the last attempt; their sum is the time from submission to the stored picture."""

    model_config = ConfigDict(from_attributes=True)

    queued: float
    starting: float
    loading: float
    denoising: float
    storing: float


class ChargeView(BaseModel):
    """What the attempts of a job that have ended took."""

    model_config = ConfigDict(from_attributes=True)

    gpu_seconds: float = Field(
        description="For how long a device was busy with it; its share where it shared one."
    )
    cost: float | None = Field(
        description="Money, by the price of when each attempt ended; null: there was none."
    )
    currency: str | None = Field(examples=["USD"])


class Links(BaseModel):
    self: str
    events: str
    cancel: str


class JobView(BaseModel):
    """A job: the life of one request."""

    id: str
    status: JobStatus
    runtime: str
    model: str
    created_at: Moment
    started_at: Moment | None = Field(description="When its current or last attempt started.")
    finished_at: Moment | None
    attempts: int = Field(description="How many workers have tried it so far.")
    cancel_requested: bool
    waiting: str | None = Field(
        description="Why a queued job is not running yet; told when a job is asked for alone.",
        examples=["queued behind 12"],
    )
    request: Requested
    used: Used
    seed: int
    notes: list[str] = Field(description="What you should know, as words the model doesn't.")
    error: Failure | None
    images: list[Image]
    timings: TimingsView
    charge: ChargeView
    metadata: dict[str, Any]
    links: Links

    @classmethod
    def of(cls, job: Job, *, waiting: str | None = None) -> JobView:
        path = job_path(job.id)
        return cls(
            id=job.id,
            status=job.status,
            runtime=job.runtime,
            model=job.settings.model,
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
            attempts=job.attempt,
            cancel_requested=job.cancel_requested,
            waiting=waiting,
            request=Requested.of(job, path),
            used=Used.model_validate(job.settings),
            seed=job.settings.seed,
            notes=list(job.notes),
            error=None if job.error is None else Failure.model_validate(job.error),
            images=[
                Image(
                    index=image.index,
                    url=f"{path}/images/{image.index}",
                    media_type=image.media_type,
                    width=image.width,
                    height=image.height,
                    size_bytes=image.size_bytes,
                    sha256=image.sha256,
                    seed=image.seed,
                )
                for image in job.images
            ],
            timings=TimingsView.model_validate(job.timings),
            charge=ChargeView.model_validate(job.charge),
            metadata=dict(job.request.metadata),
            links=Links(self=path, events=f"{path}/events", cancel=f"{path}/cancel"),
        )


def job_path(job_id: str) -> str:
    return f"/v1/jobs/{job_id}"


class JobList(BaseModel):
    """Jobs, newest first."""

    jobs: list[JobView]
    next: str | None = Field(description="Pass it as cursor for the next page; null on the last.")


class Size(BaseModel):
    width: int
    height: int


class Defaults(BaseModel):
    """What a request gets that leaves a field out."""

    model_config = ConfigDict(from_attributes=True)

    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    sampler: str


class ModelView(BaseModel):
    """A model of the catalogue, or weights that are used beside one."""

    name: str
    kind: ModelKind = Field(description="`base` draws by itself; names are unique within a kind.")
    title: str
    description: str
    family: str = Field(
        description="Of the network; of other kinds that of the models they fit, empty: any, or "
        "not known."
    )
    license: str
    size_bytes: int
    default: bool = Field(description="Whether a request that names no model gets this one.")
    defaults: Defaults
    sizes: list[Size] = Field(description="The sizes it draws well; empty: any.")
    vocabulary: list[str] | None = Field(
        description="Every word it knows; null: no such list, or not told in a listing."
    )
    attribution: list[str] = Field(
        description="Whose work it was made from and under which licences, a line each."
    )
    refusal: str | None = Field(description="Why it must not be loaded; null when it may.")
    sha256: str | None = Field(
        description="Digest of the whole model; null where nobody has computed it."
    )
    memory_bytes: int = Field(
        description="Estimate of what a GPU needs for one picture; a CPU needs about twice as "
        "much. 0: not known."
    )
    loaded_on: list[str] = Field(description="Workers that hold it in memory now.")
    ready: bool = Field(
        description="For KServe's clients: whether a request may name it. A worker starts by itself."
    )
    id: str = Field(description="For OpenAI's clients: the name.")
    object: Literal["model"] = "model"
    created: int = Field(default=0, description="For OpenAI's clients: 0, as it is not known.")
    owned_by: str = OWNER

    @classmethod
    def of(
        cls,
        model: ModelInfo,
        *,
        default: bool,
        loaded_on: Sequence[str] = (),
        with_vocabulary: bool = False,
    ) -> ModelView:
        told = model.vocabulary if with_vocabulary else None
        return cls(
            name=model.name,
            kind=model.kind,
            title=model.title or model.name,
            description=model.description,
            family=model.family,
            license=model.license,
            size_bytes=model.size_bytes,
            default=default,
            defaults=Defaults.model_validate(model.defaults),
            sizes=[Size(width=width, height=height) for width, height in model.sizes],
            vocabulary=None if told is None else sorted(told),
            attribution=list(model.attribution),
            refusal=model.refusal,
            sha256=model.sha256 or None,
            memory_bytes=model.memory_bytes,
            loaded_on=list(loaded_on),
            ready=model.refusal is None,
            id=model.name,
        )


class OpenAiModel(BaseModel):
    """What OpenAI's clients read of a model."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = OWNER


class ModelList(BaseModel):
    """One answer for three kinds of clients: ``object`` and ``data`` are OpenAI's."""

    models: list[ModelView]
    samplers: list[str]
    schedules: list[str]
    object: Literal["list"] = "list"
    data: list[OpenAiModel] = Field(
        description="For OpenAI's clients: those of the models that may be loaded."
    )

    @classmethod
    def of(
        cls, models: Sequence[ModelView], *, samplers: Iterable[str], schedules: Iterable[str]
    ) -> ModelList:
        return cls(
            models=list(models),
            samplers=list(samplers),
            schedules=list(schedules),
            data=[OpenAiModel(id=model.id) for model in models if model.ready],
        )


class RuntimeReport(BaseModel):
    """What a runtime is doing.

    ``waiting``: why the job at the head of its queue is not running; null when nothing waits.
    """

    workers: Sequence[str] = Field((), description="Names of the workers that are running.")
    queued: int = 0
    running: int = 0
    waiting: str | None = None


class RuntimeView(RuntimeReport):
    """A runtime: a named pool of workers."""

    name: str
    models: list[str] = Field(description="The models it serves; empty: every one.")
    max_workers: int
    idle_timeout: float = Field(description="Seconds without work after which a worker stops.")
    gpu_class: str | None = Field(description="The GPUs of its workers; null: not told.")
    gpu_hour_price: float | None = Field(
        description="What an hour of one costs now; null: it has no price."
    )
    currency: str | None

    @classmethod
    def of(cls, runtime: Runtime, report: RuntimeReport) -> RuntimeView:
        return cls(
            name=runtime.name,
            models=list(runtime.models),
            max_workers=runtime.max_workers,
            idle_timeout=runtime.idle_timeout,
            gpu_class=runtime.gpu_class or None,
            gpu_hour_price=None if runtime.price is None else runtime.price.per_hour,
            currency=None if runtime.price is None else runtime.price.currency,
            **dict(report),
        )


class RuntimeList(BaseModel):
    runtimes: list[RuntimeView]


class Problem(BaseModel):
    """An error, in RFC 9457's form. Match on ``code``: it is stable."""

    type: str = Field(examples=["urn:problem-type:sfumato:unknown_model"])
    title: str = Field(examples=["Unknown model"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["There is no model 'startr'. Did you mean 'starter'?"])
    code: str = Field(examples=["unknown_model"])
    field: str | None = Field(None, examples=["model"])
    accepted: str | list[str] | None = Field(None, examples=[["starter"]])


#: ``responses`` of a router whose errors are problems.
PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem, "content": {"application/problem+json": {}}} for code in ("4XX", "5XX")
}
