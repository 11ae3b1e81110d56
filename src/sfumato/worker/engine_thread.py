"""The thread that owns the engine: loads, admits, steps and decodes, and never waits for I/O."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from sfumato.core.errors import EngineError, EngineFailure, OutOfMemory, SfumatoError
from sfumato.core.ports import (
    NO_MEASURES,
    Clock,
    DecodedImage,
    ImageEngine,
    ImageTask,
    Measures,
    Progress,
    Slot,
)
from sfumato.worker.admission import AdmissionOrder
from sfumato.worker.batcher import StepBatcher
from sfumato.worker.encoders import Encoders
from sfumato.worker.health import EngineHealth
from sfumato.worker.metering import DeviceMeter, Share
from sfumato.worker.observing import EngineObserver, Stepped
from sfumato.worker.row_caps import RowCaps
from sfumato.worker.run import (
    Admitted,
    Dropped,
    Exported,
    Failed,
    ImageReady,
    JobRun,
    Loading,
    Report,
)

log = logging.getLogger(__name__)

_Item = TypeVar("_Item")
#: Jobs whose prompts are read at once; the batch waits meanwhile.
_PREPARED_TOGETHER = 16


@dataclass(slots=True)
class _Member:
    """A job in the batch."""

    run: JobRun
    slots: list[Slot] = field(default_factory=list)
    steps_done: int = 0
    steps_total: int = 0
    next_report: float = 0.0
    next_preview: float = 0.0


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
        self._meter = DeviceMeter(clock.monotonic)
        self._health = health or EngineHealth(clock.monotonic)
        self._observer = EngineObserver(clock, measures)
        self._report_interval = report_interval
        self._preview_interval = preview_interval
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._members: dict[str, _Member] = {}
        self._waiting = AdmissionOrder(clock.monotonic)
        #: The job that is next, and the models in use that have left no room for its own.
        self._no_room: tuple[JobRun, set[str]] | None = None
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
        self._inbox.put(lambda: self._waiting.add(run))

    def drop(self, run: JobRun) -> None:
        """Take a job out of the batch before its next step; ``Dropped`` tells that it is out."""
        self._inbox.put(lambda: self._drop(run))

    def export(self, run: JobRun) -> None:
        """Take a job out of the batch and post its state as ``Exported``."""
        self._inbox.put(lambda: self._export(run))

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
        self._engine = engine
        self._health.opened = True
        self._encoders = Encoders()
        with contextlib.closing(self._encoders):
            self._step_until_stopped()

    def _step_until_stopped(self) -> None:
        self._caps = RowCaps(self._engine.row_limit)
        self._batcher = StepBatcher(self._caps.limit, clock=self._clock.monotonic)
        while self._obey():
            self._admit_waiting()
            batch = self._batcher.next_batch()
            if batch:
                self._step(batch)

    def _obey(self) -> bool:
        """Carry out what the event loop asked; waits only when there is nothing to do."""
        pulse = self._health.pulse
        while True:
            nothing_to_do = not (len(self._batcher) or len(self._waiting))
            if nothing_to_do:
                pulse.rest()
            try:
                command = self._inbox.get(block=nothing_to_do)
            except queue.Empty:
                return True
            finally:
                pulse.beat()
            if command is None:
                return False
            command()

    def _admit_waiting(self) -> None:
        """Admit whose turn it is; at most one whose models have to be loaded first."""
        prepared: set[JobRun] = set()
        while run := self._waiting.next(self._engine.loaded(), idle=len(self._batcher) == 0):
            loaded = all(model.name in self._engine.loaded() for model in run.models)
            if not self._load(run):
                return
            if run not in prepared:
                together = self._waiting.ready(self._engine.loaded())[:_PREPARED_TOGETHER]
                if len(together) > 1:  # all pictures of a job have its prompts
                    shares = [Share(each) for each in together]
                    with self._observer.encoding(together), self._meter.charging(shares):
                        self._engine.prepare([each.tasks()[0] for each in together])
                prepared.update(together)
            self._waiting.remove(run)
            self._admit(run)
            if not loaded:
                return

    def _load(self, run: JobRun) -> bool:
        """Whether the run's models are in memory; it waits on where others must end first."""
        self._health.pulse.beat()
        in_use = self._in_use()
        if self._no_room == (run, in_use):
            return False
        before = sorted(self._engine.loaded())
        try:
            if all(model.name in before for model in run.models):
                self._load_models(run, in_use)
            else:
                self._post(run, Loading())
                with self._observer.loading(run):
                    self._load_models(run, in_use)
        except OutOfMemory as error:
            if in_use:
                message = "job %s waits until others have ended: %s"
                log.info(message, run.job_id, error, extra=run.spans.log_fields)
                self._no_room = run, in_use
            else:
                self._fail(run, error)
            return False
        except Exception as error:  # noqa: BLE001 - one job's failure, whatever it is
            self._fail(run, error)
            return False
        finally:
            if (after := sorted(self._engine.loaded())) != before:
                self._call(self._on_loaded, after)
        return True

    def _load_models(self, run: JobRun, in_use: set[str]) -> None:
        own: set[str] = set()
        with self._meter.charging([Share(run)]):
            for model in run.models:
                self._engine.load(model, in_use=in_use | own)
                own.add(model.name)

    def _in_use(self) -> set[str]:
        """Names of the models that draw what is in the batch."""
        return {model.name for member in self._members.values() for model in member.run.models}

    def _admit(self, run: JobRun) -> None:
        if run.job_id in self._members:  # an attempt that was lost, and came back to this worker
            self._forget(self._members[run.job_id].run)
        member = self._members[run.job_id] = _Member(run)

        def enter() -> None:
            with self._meter.charging([Share(run)]):
                self._enter(member)

        error = self._failure_of(enter)
        # What a request names beside its models is read now, and may need their room.
        if isinstance(error, OutOfMemory) and self._make_room():
            error = self._failure_of(enter)
        if error is not None:
            self._fail(run, error)
            return
        for slot in member.slots:
            self._batcher.add(slot)
        now = self._clock.monotonic()
        # A picture that is done sooner needs no preview.
        member.next_preview = now + self._preview_interval
        self._post(run, Admitted(now))

    def _enter(self, member: _Member) -> None:
        """Make a slot of every picture of a job."""
        member.slots, run = [], member.run
        with self._observer.encoding([run]):
            for task in run.tasks():
                blob = run.assignment.checkpoint.get(task.index)
                slot = self._engine.admit(task) if blob is None else self._resume(task, blob)
                member.slots.append(slot)
        member.steps_done = sum(slot.step for slot in member.slots)
        member.steps_total = sum(slot.steps for slot in member.slots)

    def _resume(self, task: ImageTask, blob: bytes) -> Slot:
        try:
            return self._engine.resume(task, blob)
        except EngineError as error:
            log.warning("job %s: image %d starts anew: %s", task.job_id, task.index, error)
            return self._engine.admit(task)

    def _step(self, batch: Sequence[Slot]) -> None:
        if not batch:
            return
        self._health.pulse.beat()
        key, rows = batch[0].batch_key, sum(slot.rows for slot in batch)
        shares = [Share(self._run_of(slot), slot.rows) for slot in batch]

        def take() -> None:
            with self._meter.charging(shares):
                self._engine.step(batch)

        before, began = [slot.step for slot in batch], self._clock.monotonic()
        error = self._failure_of(take)
        if isinstance(error, OutOfMemory):
            self._caps.failed(key, rows)
            if len(batch) == 1 and self._make_room():
                error = self._failure_of(take)
        if error is not None:
            if len(batch) == 1:
                self._fail(self._members[batch[0].task.job_id].run, error)
                return
            # By its class: what other libraries raise may quote a prompt.
            name = type(error).__name__
            log.warning("a step of %d slots failed (%s); trying each half", len(batch), name)
            middle = len(batch) // 2
            for half in (batch[:middle], batch[middle:]):
                self._step([slot for slot in half if slot.task.job_id in self._members])
            return
        seconds = self._clock.monotonic() - began
        self._caps.succeeded(key, rows)
        taken = []
        for slot, step in zip(batch, before, strict=True):
            member, steps = self._members[slot.task.job_id], slot.step - step
            member.steps_done += steps
            taken.append(Stepped(member.run, slot.task.index, steps))
            self._batcher.regroup(slot)
        row_limit = self._caps.limit(key)
        self._observer.stepped(taken, key=key, rows=rows, row_limit=row_limit, seconds=seconds)
        self._report(batch)
        self._decode([slot for slot in batch if slot.step >= slot.steps])

    def _failure_of(self, action: Callable[[], None]) -> Exception | None:
        """What an action raised, whose failure it is to be found out by the caller.

        Outside of an ``except`` block: what the failure has in memory would be missing there.
        """
        try:
            action()
        except Exception as error:  # noqa: BLE001 - see above
            return error
        return None

    def _run_of(self, slot: Slot) -> JobRun:
        return self._members[slot.task.job_id].run

    def _make_room(self) -> bool:
        """Let go of the models that nobody in the batch uses."""
        if not self._engine.make_room(in_use=self._in_use()):
            return False
        self._call(self._on_loaded, sorted(self._engine.loaded()))
        return True

    def _report(self, batch: Sequence[Slot]) -> None:
        now = self._clock.monotonic()
        for slot in {slot.task.job_id: slot for slot in batch}.values():
            member = self._members[slot.task.job_id]
            if now < member.next_report and member.steps_done < member.steps_total:
                continue
            member.next_report = now + self._report_interval
            preview = None
            if now >= member.next_preview and slot.step < slot.steps:
                preview = self._preview(slot)
                member.next_preview = now + self._preview_interval
            progress = Progress(member.steps_done, member.steps_total, preview, slot.task.index)
            self._call(member.run.post_progress, progress)

    def _preview(self, slot: Slot) -> str | None:
        try:
            with self._meter.charging([Share(self._run_of(slot))]):
                return self._engine.preview(slot)
        except EngineError as error:
            log.warning("job %s goes on without a preview: %s", slot.task.job_id, error)
            return None

    def _decode(self, slots: Sequence[Slot]) -> None:
        """Decode slots whose steps are done, and have their pictures encoded."""
        for slot in slots:
            self._batcher.remove(slot)
        left = deque(slots)

        def decode() -> None:
            began = self._clock.monotonic()
            for image in self._decoded(left):
                self._health.pulse.beat()
                slot, now = left.popleft(), self._clock.monotonic()
                run = self._members[slot.task.job_id].run
                self._observer.decoded(run, slot.task.index, seconds=now - began)
                self._encode(slot, image)
                began = self._clock.monotonic()

        error = self._failure_of(decode)
        if len(slots) == 1 and isinstance(error, OutOfMemory) and self._make_room():
            error = self._failure_of(decode)
        if error is None:
            return
        if len(slots) == 1:
            self._fail(self._members[slots[0].task.job_id].run, error)
            return
        name = type(error).__name__
        log.warning("%d pictures were not decoded (%s); trying each", len(left), name)
        for slot in left:
            if slot.task.job_id in self._members:
                self._decode([slot])

    def _decoded(self, left: deque[Slot]) -> Iterator[DecodedImage]:
        """The pictures of the slots, which the caller takes away one by one. What it takes to decode
        some together is shared by them."""
        images = self._engine.decode(tuple(left))
        while left:
            began, together = self._meter.now(), len(left)
            try:
                image = next(images)
                together = image.together
            finally:
                sharing = [Share(self._run_of(slot)) for slot in islice(left, together)]
                self._meter.charge(self._meter.now() - began, sharing)
            yield image

    def _encode(self, slot: Slot, image: DecodedImage) -> None:
        """In a thread of its own, unless there is nothing else to do for this one."""
        member = self._members[slot.task.job_id]
        member.slots.remove(slot)
        run = member.run

        def encode() -> None:
            try:
                with run.spans.part("write", {"sfumato.image": slot.task.index}):
                    encoded = self._engine.encode(image)
            except Exception as error:  # noqa: BLE001 - one job's failure, whatever it is
                failure = error
                self._inbox.put(lambda: self._fail(run, failure))
            else:
                self._post(run, ImageReady(encoded, image.notes, self._clock.monotonic()))

        if not member.slots:
            del self._members[slot.task.job_id]
            run.spans.denoised()
        if self._members or len(self._waiting) or not self._inbox.empty():
            self._encoders.submit(run, encode)
        else:
            encode()

    def _export(self, run: JobRun) -> None:
        self._encoders.wait(run)
        member = self._members.get(run.job_id)
        ours = member is not None and member.run is run
        under_way = [slot for slot in member.slots if slot.step > 0] if member and ours else []
        try:
            with self._meter.charging([Share(run)]):
                slots = {slot.task.index: self._engine.export(slot) for slot in under_way}
        except EngineError as error:
            message = "job %s: its state could not be kept: %s"
            log.warning(message, run.job_id, error, extra=run.spans.log_fields)
            slots = {}
        self._forget(run)
        self._post(run, Exported(slots))

    def _fail(self, run: JobRun, error: Exception) -> None:
        if not isinstance(error, SfumatoError):
            log.error("job %s failed", run.job_id, exc_info=error, extra=run.spans.log_fields)
            error = EngineFailure(f"{type(error).__name__}: {error}")
        self._forget(run)
        self._post(run, Failed(error))

    def _drop(self, run: JobRun) -> None:
        self._forget(run)
        self._post(run, Dropped())

    def _forget(self, run: JobRun) -> None:
        """Take a run out of the batch, or of those that wait; a later run of its job stays."""
        self._waiting.remove(run)
        member = self._members.get(run.job_id)
        if member is None or member.run is not run:
            return
        del self._members[run.job_id]
        run.spans.denoised()
        for slot in member.slots:
            self._batcher.remove(slot)

    def _post(self, run: JobRun, report: Report) -> None:
        self._call(run.post, report)

    def _call(self, function: Callable[[_Item], None], item: _Item) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop closed: nobody listens any more
            self._loop.call_soon_threadsafe(function, item)
