"""The ``Measures`` port by Prometheus' client, in a registry of its own.

``docs/howto/observing.md`` lists the metrics; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from sfumato.core.charges import Charge
from sfumato.core.errors import SfumatoError
from sfumato.core.job import JobStatus, Timings
from sfumato.core.ports import ColdPhase

_HTTP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_STEP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_PHASE_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600)
_SHARES = tuple(tenth / 10 for tenth in range(1, 11))


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a gauge that is looked up when somebody asks. ``labels``: by their names."""

    name: str
    help: str
    value: float
    labels: Mapping[str, str]


class PrometheusMeasures:
    """The ``Measures`` port."""

    def __init__(self) -> None:
        # Another series for each of ours, and nobody asks when it began.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._requests = Counter(
            "sfumato_http_requests",
            "HTTP requests answered, by the template of their path.",
            ("method", "route", "status"),
            registry=registry,
        )
        self._request_seconds = Histogram(
            "sfumato_http_request_seconds",
            "How long the whole answer took; long polls and streams as long as they were open.",
            ("method", "route"),
            buckets=_HTTP_SECONDS,
            registry=registry,
        )
        self._submitted = Counter(
            "sfumato_jobs_submitted", "Jobs made.", ("runtime",), registry=registry
        )
        self._ended = Counter(
            "sfumato_jobs_ended", "Jobs that have ended.", ("runtime", "status"), registry=registry
        )
        self._failures = Counter(
            "sfumato_attempt_failures",
            "Attempts that failed or were lost, by the error's code.",
            ("runtime", "code"),
            registry=registry,
        )
        self._images = Counter(
            "sfumato_images", "Pictures delivered.", ("runtime",), registry=registry
        )
        self._phases = Histogram(
            "sfumato_job_phase_seconds",
            "Where the time of jobs that succeeded went.",
            ("runtime", "phase"),
            buckets=_PHASE_SECONDS,
            registry=registry,
        )
        self._gpu_seconds = Counter(
            "sfumato_gpu_seconds",
            "For how long devices were busy with jobs, whatever became of them.",
            ("runtime",),
            registry=registry,
        )
        self._cost = Counter(
            "sfumato_cost",
            "What that cost, where the runtime has a price.",
            ("runtime", "currency"),
            registry=registry,
        )
        self._cold = Gauge(
            "sfumato_cold_start_seconds",
            "How long each phase of this worker's start took.",
            ("phase",),
            registry=registry,
        )
        self._steps = Counter(
            "sfumato_steps", "Denoising steps, each of one picture.", registry=registry
        )
        self._step_seconds = Histogram(
            "sfumato_batch_step_seconds",
            "How long a step of the whole batch took.",
            buckets=_STEP_SECONDS,
            registry=registry,
        )
        self._occupancy = Histogram(
            "sfumato_batch_occupancy",
            "Rows of a step, of the rows that it may have.",
            buckets=_SHARES,
            registry=registry,
        )

    def requested(self, *, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method, route, str(status)).inc()
        self._request_seconds.labels(method, route).observe(seconds)

    def submitted(self, runtime: str) -> None:
        self._submitted.labels(runtime).inc()

    def attempt_failed(self, runtime: str, code: str) -> None:
        self._failures.labels(runtime, code if code in _codes(SfumatoError) else "other").inc()

    def ended(
        self,
        runtime: str,
        status: JobStatus,
        *,
        images: int = 0,
        timings: Timings | None = None,
    ) -> None:
        self._ended.labels(runtime, status.value).inc()
        if images:
            self._images.labels(runtime).inc(images)
        if timings is not None:
            for phase, seconds in asdict(timings).items():
                self._phases.labels(runtime, phase).observe(seconds)

    def spent(self, runtime: str, charge: Charge) -> None:
        self._gpu_seconds.labels(runtime).inc(charge.gpu_seconds)
        if charge.cost is not None and charge.currency is not None:
            self._cost.labels(runtime, charge.currency).inc(charge.cost)

    def cold_start(self, phase: ColdPhase, seconds: float) -> None:
        self._cold.labels(phase.value).set(seconds)

    def stepped(self, *, slots: int, rows: int, row_limit: int, seconds: float) -> None:
        self._steps.inc(slots)
        self._step_seconds.observe(seconds)
        self._occupancy.observe(rows / max(row_limit, 1))

    def watch(self, look: Callable[[], Sequence[Sample]]) -> None:
        """Ask this for more values at every scrape."""
        self._registry.register(_Watched(look))

    def render(self, accept: str) -> tuple[bytes, str]:
        """Everything, in the format that an ``Accept`` header asks for, with its media type."""
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type


def _codes(kind: type[SfumatoError]) -> set[str]:
    """Of an error and all below it: a worker elsewhere may tell of any, and each is a time series."""
    return {kind.code}.union(*(_codes(below) for below in kind.__subclasses__()))


class _Watched(Collector):
    def __init__(self, look: Callable[[], Sequence[Sample]]) -> None:
        self._look = look

    def describe(self) -> Iterable[Metric]:
        return ()  # what there is is known once somebody asks

    def collect(self) -> Iterable[Metric]:
        families: dict[str, GaugeMetricFamily] = {}
        for sample in self._look():
            if sample.name not in families:
                families[sample.name] = GaugeMetricFamily(
                    sample.name, sample.help, labels=list(sample.labels)
                )
            families[sample.name].add_metric(list(sample.labels.values()), sample.value)
        return families.values()
