"""The thread that owns the engine: does what it is asked between two steps, and never waits for I/O."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from sfumato.core.ports import NO_MEASURES, Clock, ImageEngine, Measures
from sfumato.worker.encoders import Encoders
from sfumato.worker.health import EngineHealth
from sfumato.worker.observing import EngineObserver
from sfumato.worker.run import JobRun
from sfumato.worker.running import RunningBatch

_Item = TypeVar("_Item")


class EngineThread:
    """Runs the step batcher over an engine that is made inside the thread.

    Args:
        make_engine: imports torch and builds the engine; seconds of work.
        report_interval: seconds between two reports of one job's progress; its last step is
            always reported. Who reports every short step takes the interpreter, and a core, from
            the next one.
        preview_interval: seconds between two previews of one job.
        on_loaded: called on the event loop with the models in memory, when one was loaded.
        health: told of each piece of work that the thread begins.
        measures: told of each step, and of what came before the first.
    """

    def __init__(
        self,
        make_engine: Callable[[], ImageEngine],
        *,
        clock: Clock,
        health: EngineHealth | None = None,
        measures: Measures = NO_MEASURES,
        report_interval: float = 0.1,
        preview_interval: float = 0.4,
        on_loaded: Callable[[Sequence[str]], None] = lambda _models: None,
    ) -> None:
        self._make_engine = make_engine
        self._on_loaded = on_loaded
        self._clock = clock
        self._health = health or EngineHealth(clock.monotonic)
        self._observer = EngineObserver(clock, measures)
        self._report_interval = report_interval
        self._preview_interval = preview_interval
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._finished: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._main, name="engine", daemon=True)
        self._started = False

    # -- called on the event loop ----------------------------------------------------------------

    def start(self) -> None:
        """Make the engine, unless that has begun."""
        if not self._started:
            self._started = True
            self._health.asked_for = True
            self._health.pulse.beat()
            self._thread.start()

    def admit(self, run: JobRun) -> None:
        """Let a job's pictures join the batch; the run's mailbox tells what becomes of them."""
        self._inbox.put(lambda: self._batch.add(run))

    def drop(self, run: JobRun) -> None:
        """Take a job out of the batch before its next step; ``Dropped`` tells that it is out."""
        self._inbox.put(lambda: self._batch.drop(run))

    def export(self, run: JobRun) -> None:
        """Take a job out of the batch and post its state as ``Exported``."""
        self._inbox.put(lambda: self._batch.export(run))

    async def stop(self) -> None:
        if not self._started:
            return
        self._inbox.put(None)
        await self.finished()

    async def finished(self) -> None:
        """Returns when the thread has stopped; raises what broke it."""
        await asyncio.shield(self._finished)

    # -- the thread ------------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            with self._observer.opening():
                engine = self._make_engine()
            self._drive(engine)
        except BaseException as error:  # noqa: BLE001 - handed to the event loop, which raises it
            self._health.broken = True
            self._call(self._finish, error)
        else:
            self._call(self._finish, None)

    def _finish(self, error: BaseException | None) -> None:
        if self._finished.done():
            return
        if error is None:
            self._finished.set_result(None)
        else:
            self._finished.set_exception(error)

    def _drive(self, engine: ImageEngine) -> None:
        self._health.opened = True
        with contextlib.closing(Encoders()) as encoders:
            batch = self._batch = RunningBatch(
                engine,
                encoders,
                clock=self._clock,
                observer=self._observer,
                pulse=self._health.pulse,
                report_interval=self._report_interval,
                preview_interval=self._preview_interval,
                on_loaded=self._on_loaded,
                tell=self._call,
                later=self._inbox.put,
                is_asked=lambda: not self._inbox.empty(),
            )
            while self._obey(batch):
                batch.admit_waiting()
                batch.step()

    def _obey(self, batch: RunningBatch) -> bool:
        """Carry out what the event loop asked; waits only when there is nothing to do."""
        pulse = self._health.pulse
        while True:
            if not batch.busy:
                pulse.rest()
            try:
                command = self._inbox.get(block=not batch.busy)
            except queue.Empty:
                return True
            finally:
                pulse.beat()
            if command is None:
                return False
            command()

    def _call(self, function: Callable[[_Item], None], item: _Item) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop closed: nobody listens any more
            self._loop.call_soon_threadsafe(function, item)
