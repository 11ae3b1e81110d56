"""What a service has to offer: models, samplers, runtimes and the workers behind them."""

from __future__ import annotations

from datetime import datetime

from sfumato.client.answer import Answer
from sfumato.core.models import ModelDefaults


class Size(Answer):
    width: int
    height: int


class Model(Answer):
    """A model of the service's catalogue.

    Attributes:
        kind: ``base`` draws by itself; ``lora``, ``embedding``, ``controlnet``, ``vae``,
            ``upscaler`` and ``safety`` are used beside one of the same ``family``.
        default: whether a request that names no model gets this one.
        sizes: the sizes it draws well; empty: any.
        vocabulary: every word it knows; None: no such list, or not asked for alone.
        attribution: whose work it was made from and under which licences, a line each.
        refusal: why the service won't load it; None when it will.
        sha256: of the whole model; None where nobody has computed it.
        memory_bytes: an estimate of what a GPU needs for one picture; 0 when it is not known.
        loaded_on: names of the workers that hold it in memory now.
    """

    name: str
    kind: str = "base"
    title: str = ""
    description: str = ""
    family: str = ""
    license: str = ""
    size_bytes: int = 0
    default: bool = False
    defaults: ModelDefaults
    sizes: tuple[Size, ...] = ()
    vocabulary: tuple[str, ...] | None = None
    attribution: tuple[str, ...] = ()
    refusal: str | None = None
    sha256: str | None = None
    memory_bytes: int = 0
    loaded_on: tuple[str, ...] = ()


class Catalogue(Answer):
    """The models of a kind, with the names of every sampler and schedule."""

    models: tuple[Model, ...]
    samplers: tuple[str, ...] = ()
    schedules: tuple[str, ...] = ()


class Runtime(Answer):
    """A pool of workers and what it is doing.

    Attributes:
        models: the models it serves; empty: every one.
        idle_timeout: seconds without work after which a worker stops.
        gpu_class: the GPUs of its workers; None: not told.
        gpu_hour_price: what an hour of one costs now, in ``currency``; None: it has no price.
        workers: names of those that are running.
        waiting: why the job at the head of its queue is not running; None when nothing waits.
    """

    name: str
    models: tuple[str, ...] = ()
    max_workers: int
    idle_timeout: float
    gpu_class: str | None = None
    gpu_hour_price: float | None = None
    currency: str | None = None
    workers: tuple[str, ...] = ()
    queued: int = 0
    running: int = 0
    waiting: str | None = None


class RuntimeList(Answer):
    runtimes: tuple[Runtime, ...]


class Worker(Answer):
    """A worker that was heard of in the last half minute.

    Attributes:
        kind: ``local``, beside the store, or ``remote``, over HTTPS.
        models: those that it holds in memory.
    """

    name: str
    runtime: str
    kind: str
    device: str
    models: tuple[str, ...] = ()
    started_at: datetime
    seen_at: datetime


class WorkerList(Answer):
    workers: tuple[Worker, ...]


class Scaling(Answer):
    """How many jobs of a runtime are open, and how many workers they ask for.

    Attributes:
        oldest_seconds: how long the oldest queued job has waited; 0 when none does.
    """

    queued: int
    running: int
    desired: int
    oldest_seconds: float
