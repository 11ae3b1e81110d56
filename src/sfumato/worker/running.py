"""The running batch in the engine: loads, admits, steps and decodes, one call after another."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from sfumato.core.errors import EngineError, EngineFailure, OutOfMemory, SfumatoError
from sfumato.core.ports import Clock, DecodedImage, ImageEngine, ImageTask, Progress, Slot
from sfumato.worker.admission import AdmissionOrder
from sfumato.worker.batcher import StepBatcher
from sfumato.worker.encoders import Encoders
from sfumato.worker.failures import failure_of
from sfumato.worker.health import Pulse
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

#: Jobs whose prompts are read at once; the batch waits meanwhile.
_PREPARED_TOGETHER = 16
#: Has a function called with an item on the event loop.
Tell = Callable[[Callable[[Any], None], Any], None]


@dataclass(slots=True)
class _Member:
    """A job in the batch."""

    run: JobRun
    slots: list[Slot] = field(default_factory=list)
    steps_done: int = 0
    steps_total: int = 0
    next_report: float = 0.0
    next_preview: float = 0.0


class RunningBatch:
    """Used on the engine's thread alone.

    Args:
        observer, pulse: told of each piece of work.
        report_interval, preview_interval: seconds between two of one job.
        on_loaded: called on the event loop with the models in memory, when one was loaded.
        tell: reaches the event loop.
        later: has something done on this thread before its next step.
        is_asked: whether anything is to be done before the next step.
    """

    def __init__(
        self,
        engine: ImageEngine,
        encoders: Encoders,
        *,
        clock: Clock,
        observer: EngineObserver,
        pulse: Pulse,
        report_interval: float,
        preview_interval: float,
        on_loaded: Callable[[Sequence[str]], None],
        tell: Tell,
        later: Callable[[Callable[[], None]], None],
        is_asked: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._encoders = encoders
        self._clock = clock
        self._observer = observer
        self._pulse = pulse
        self._report_interval = report_interval
        self._preview_interval = preview_interval
        self._on_loaded = on_loaded
        self._tell = tell
        self._later = later
        self._is_asked = is_asked
        self._meter = DeviceMeter(clock.monotonic)
        self._caps = RowCaps(engine.row_limit)
        self._batcher = StepBatcher(self._caps.limit, clock=clock.monotonic)
        self._members: dict[str, _Member] = {}
        self._waiting = AdmissionOrder(clock.monotonic)
        #: The job that is next, and the models in use that have left no room for its own.
        self._no_room: tuple[JobRun, set[str]] | None = None

    @property
    def busy(self) -> bool:
        """Whether there is anything to admit or to step."""
        return bool(len(self._batcher) or len(self._waiting))

    def add(self, run: JobRun) -> None:
        """Let a run's pictures join once it is its turn."""
        self._waiting.add(run)

    def step(self) -> None:
        """Take the next step, where there is any."""
        self._step(self._batcher.next_batch())

    def admit_waiting(self) -> None:
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
        self._pulse.beat()
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
                self._tell(self._on_loaded, after)
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

        error = failure_of(enter)
        # What a request names beside its models is read now, and may need their room.
        if isinstance(error, OutOfMemory) and self._make_room():
            error = failure_of(enter)
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
        self._pulse.beat()
        key, rows = batch[0].batch_key, sum(slot.rows for slot in batch)
        shares = [Share(self._run_of(slot), slot.rows) for slot in batch]

        def take() -> None:
            with self._meter.charging(shares):
                self._engine.step(batch)

        before, began = [slot.step for slot in batch], self._clock.monotonic()
        error = failure_of(take)
        if isinstance(error, OutOfMemory):
            self._caps.failed(key, rows)
            if len(batch) == 1 and self._make_room():
                error = failure_of(take)
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

    def _run_of(self, slot: Slot) -> JobRun:
        return self._members[slot.task.job_id].run

    def _make_room(self) -> bool:
        """Let go of the models that nobody in the batch uses."""
        if not self._engine.make_room(in_use=self._in_use()):
            return False
        self._tell(self._on_loaded, sorted(self._engine.loaded()))
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
            self._tell(member.run.post_progress, progress)

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
                self._pulse.beat()
                slot, now = left.popleft(), self._clock.monotonic()
                run = self._members[slot.task.job_id].run
                self._observer.decoded(run, slot.task.index, seconds=now - began)
                self._encode(slot, image)
                began = self._clock.monotonic()

        error = failure_of(decode)
        if len(slots) == 1 and isinstance(error, OutOfMemory) and self._make_room():
            error = failure_of(decode)
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
                self._later(lambda: self._fail(run, failure))
            else:
                self._post(run, ImageReady(encoded, image.notes, self._clock.monotonic()))

        if not member.slots:
            del self._members[slot.task.job_id]
            run.spans.denoised()
        if self._members or len(self._waiting) or self._is_asked():
            self._encoders.submit(run, encode)
        else:
            encode()

    def export(self, run: JobRun) -> None:
        """Take a run out of the batch and post its state."""
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

    def drop(self, run: JobRun) -> None:
        """Take a run out of the batch, or of those that wait; post that it is out."""
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
        self._tell(run.post, report)
