"""What a process tells of itself, by settings: its traces, and its metrics at the internal port."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sfumato import __version__
from sfumato.adapters.telemetry.relayed import RelayedMeasures, relay
from sfumato.api.internal import Page, Pages
from sfumato.core.errors import StartupRefused
from sfumato.core.ports import NO_MEASURES, NO_TRACES, Measures, Traces, WebhookStore
from sfumato.core.runtimes import Runtime
from sfumato.services.placement import Scaling
from sfumato.settings import Settings, TracesTo

if TYPE_CHECKING:
    from sfumato.adapters.telemetry.measures import PrometheusMeasures, Sample
    from sfumato.adapters.telemetry.traces import OtelTraces

log = logging.getLogger(__name__)

#: What traces call the processes.
SERVICE, WORKER_SERVICE = "sfumato", "sfumato-worker"
#: Seconds that a scrape waits for the job store.
_LOOK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Silent, unless it is opened with settings that want it otherwise.

    Attributes:
        prometheus: what ``measures`` is where somebody may ask for it.
    """

    traces: Traces = NO_TRACES
    measures: Measures = NO_MEASURES
    prometheus: PrometheusMeasures | None = field(default=None, repr=False)

    @property
    def pages(self) -> Pages:
        """For the internal port."""
        if self.prometheus is None:
            return {}
        render = self.prometheus.render

        def metrics(accept: str) -> Page:
            body, media_type = render(accept)
            return Page(200, body, media_type)

        return {"/metrics": metrics}

    @property
    def hear(self) -> Callable[[bytes], None] | None:
        """Counts what workers tell that this service has started; None: nobody asks for it."""
        if self.prometheus is None:
            return None
        return lambda line: relay(line, self.measures)

    def watch_device(self, look: Callable[[], Mapping[str, int]]) -> None:
        """Tell of a device's memory, too: bytes by what they are."""
        if self.prometheus is None:
            return
        from sfumato.adapters.telemetry.measures import Sample  # noqa: PLC0415 - an extra

        def samples() -> list[Sample]:
            name, text = "sfumato_device_memory_bytes", "Memory of what this worker draws with."
            return [Sample(name, text, size, {"state": state}) for state, size in look().items()]

        self.prometheus.watch(samples)

    def watch_queues(
        self, scaling: Scaling, runtimes: Sequence[Runtime], hooks: WebhookStore
    ) -> None:
        """Tell of the open jobs of each runtime, and of what webhooks are not told yet. They are
        counted when somebody asks, on this event loop."""
        if self.prometheus is None:
            return
        from sfumato.adapters.telemetry.stored import StoredSamples  # noqa: PLC0415 - an extra

        names = [runtime.name for runtime in runtimes]
        self.prometheus.watch(StoredSamples(scaling.of, names, hooks.open, patience=_LOOK_SECONDS))


@contextlib.contextmanager
def open_telemetry(
    settings: Settings, *, service: str, tell: int | None = None
) -> Iterator[Telemetry]:
    """What is told; at the end, what was not sent yet is.

    Args:
        service: what traces call this process, unless ``OTEL_SERVICE_NAME`` says otherwise.
        tell: descriptor of the pipe to the service that has started this worker and is scraped for
            it.

    Raises:
        StartupRefused: traces are wanted, and what sends them is not installed.
    """
    prometheus = None if settings.internal_port is None else _open_measures()
    traces = _open_traces(settings, service)
    try:
        yield Telemetry(
            traces=traces or NO_TRACES,
            measures=prometheus or (NO_MEASURES if tell is None else RelayedMeasures(tell)),
            prometheus=prometheus,
        )
    finally:
        if traces is not None:
            traces.close()


def _open_measures() -> PrometheusMeasures | None:
    try:
        from sfumato.adapters.telemetry.measures import PrometheusMeasures  # noqa: PLC0415
    except ModuleNotFoundError:
        log.warning(
            "there are no metrics without Prometheus' client: pip install 'sfumato[telemetry]'"
        )
        return None
    return PrometheusMeasures()


def _open_traces(settings: Settings, service: str) -> OtelTraces | None:
    if settings.traces is TracesTo.NONE:
        return None
    try:
        from sfumato.adapters.telemetry.traces import OtelTraces  # noqa: PLC0415 - an extra

        make = OtelTraces.for_xray if settings.traces is TracesTo.XRAY else OtelTraces
        return make(service=service, version=__version__)
    except ModuleNotFoundError:
        raise StartupRefused(
            "SFUMATO_TRACES asks for OpenTelemetry, which is not installed: "
            "pip install 'sfumato[telemetry]'.",
            field="traces",
        ) from None
