"""A job's progress, for whoever waits: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol, TextIO

from sfumato.cli.output import printable
from sfumato.core.events import Event, EventKind

_POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a job is. ``steps`` is 0 where there is nothing to count; ``percent``: they are
    percents of a model's bytes; ``preview``: a data URL of how a picture looks by now."""

    text: str
    step: int = 0
    steps: int = 0
    percent: bool = False
    preview: str | None = None

    @property
    def words(self) -> str:
        return f"{self.text} {self.step} %" if self.percent else self.text

    def after(self, event: Event) -> Stage:
        """The stage that an event leads to."""
        data = event.data
        match event.kind:
            case EventKind.STEP:
                step, steps = int(data["step"]), int(data["steps"])
                return Stage("denoising", step, steps, preview=data.get("preview"))
            case EventKind.IMAGE:
                return Stage(f"storing image {int(data['index']) + 1}", self.step, self.steps)
            case EventKind.QUEUED:
                return Stage(f"queued: {data['reason']}" if data.get("reason") else "queued")
            case EventKind.STARTED:
                return Stage("starting")
            case EventKind.LOADING:
                text = f"loading {data.get('model', 'the model')}"
                total = int(data.get("bytes_total", 0))
                if not total:
                    return Stage(text)
                return Stage(text, int(100 * data["bytes_done"] / total), 100, percent=True)
            case _:
                return Stage(event.kind.value, self.step, self.steps)


class Display(Protocol):
    def show(self, stage: Stage) -> None: ...


class Lines:
    """A line whenever the state changes, and at each quarter of the steps."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last: tuple[str, int] | None = None

    def show(self, stage: Stage) -> None:
        quarter = 4 * stage.step // stage.steps if stage.steps else 0
        if (stage.text, quarter) == self._last:
            return
        self._last = (stage.text, quarter)
        counted = f" {stage.step}/{stage.steps}" if stage.text == "denoising" else ""
        print(f"{printable(stage.words)}{counted}", file=self._stream, flush=True)


@contextmanager
def bar() -> Iterator[Display]:
    """A bar with the step count on standard error; gone when the job is."""
    from rich.console import Console  # noqa: PLC0415 - only where there is a terminal
    from rich.markup import escape  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        SpinnerColumn(),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)

        class _Bar:
            def show(self, stage: Stage) -> None:
                progress.update(
                    task,
                    description=escape(printable(stage.words)),
                    completed=stage.step,
                    total=stage.steps or None,
                )

        yield _Bar()


class Nothing:
    """Keeps standard error for errors, which a program reads."""

    def show(self, stage: Stage) -> None:
        pass


def display(*, as_json: bool = False) -> AbstractContextManager[Display]:
    """The one that fits standard error."""
    if sys.stderr.isatty():
        return bar()
    return nullcontext(Nothing() if as_json else Lines(sys.stderr))


class Follower:
    """Shows a job from its events, and, until a worker has it, why it waits.

    Args:
        why_waiting: asks the service; called on a thread of its own.
    """

    def __init__(
        self,
        shown: Display,
        why_waiting: Callable[[], str | None],
        *,
        poll_seconds: float = _POLL_SECONDS,
    ) -> None:
        self._shown = shown
        self._why_waiting = why_waiting
        self._poll_seconds = poll_seconds
        self._stage = Stage("queued")
        self._held = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._poll, daemon=True)

    @contextmanager
    def following(self) -> Iterator[Callable[[Event], None]]:
        """Yields what takes each event."""
        self._thread.start()
        try:
            yield self._take
        finally:
            self._held.set()
            self._thread.join()

    def _take(self, event: Event) -> None:
        with self._lock:
            if event.kind is not EventKind.QUEUED:
                self._held.set()
            self._stage = self._stage.after(event)
            self._shown.show(self._stage)

    def _poll(self) -> None:
        while not self._held.wait(self._poll_seconds):
            reason = self._why_waiting()
            with self._lock:
                if reason and not self._held.is_set():
                    self._shown.show(Stage(f"waiting: {reason}"))
