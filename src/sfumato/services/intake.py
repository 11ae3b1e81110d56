"""Messages of another system become jobs, and their results go where that system looks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from sfumato.core.current import working_on
from sfumato.core.errors import NotFound, Overloaded, SfumatoError, StorageFull, Unavailable
from sfumato.core.events import EventKind
from sfumato.core.job import Job, JobError, JobStatus
from sfumato.core.ports import (
    NO_TRACES,
    SpanKind,
    Task,
    TaskDelivery,
    TaskSink,
    TaskSource,
    Traces,
)
from sfumato.core.tasks import failure_of
from sfumato.services.submission import Submission
from sfumato.services.tracking import Tracking

log = logging.getLogger(__name__)

#: Seconds between two tries to reach a source that does not answer.
_RETRY_SECONDS = 2.0
#: A one-shot intake that finds no task gives up after this many seconds.
_ONCE_PATIENCE = 1.0
#: Longest wait for a task, and for a job, in seconds.
_LONGEST_POLL = 30.0
#: A task whose results could not be stored, or that could not be accepted, comes again after this.
_SET_BACK_SECONDS = 5.0
#: Seconds between the tries to store results while their place is away.
_STORE_DELAYS = (0.1, 0.5, 2.0, 5.0)


class Intake:
    """Takes tasks, makes each one job, and acknowledges it once its results are stored.

    A task has one job however often it is delivered: the job's idempotency key derives from the
    task's id, and so do the keys of its results. Whatever ends this process, the task comes again
    and ends in the same objects.

    Args:
        visibility: seconds for which a task stays hidden without being extended.
        max_tasks: tasks under way at once; no more are taken from the source.
        tell_started: also tell the sink when a worker begins to draw.
        once: end after one task, or soon when none waits.
        on_busy: called with True when the first task begins, with False when the last has ended.
    """

    def __init__(
        self,
        *,
        source: TaskSource,
        sink: TaskSink,
        submission: Submission,
        tracking: Tracking,
        visibility: float = 60.0,
        max_tasks: int = 16,
        once: bool = False,
        tell_started: bool = False,
        on_busy: Callable[[bool], None] = lambda _busy: None,
        traces: Traces = NO_TRACES,
    ) -> None:
        self._source = source
        self._sink = sink
        self._submission = submission
        self._tracking = tracking
        self._visibility = visibility
        self._max_tasks = 1 if once else max_tasks
        self._once = once
        self._tell_started = tell_started
        self._on_busy = on_busy
        self._traces = traces
        self._draining = asyncio.Event()
        self._giving_back = asyncio.Event()
        self._room = asyncio.Event()
        self._under_way: set[asyncio.Task[None]] = set()
        #: Set once a task was taken.
        self.began = asyncio.Event()

    def drain(self) -> None:
        """Take no more tasks; those under way go on until their jobs have ended."""
        self._draining.set()

    def give_back(self) -> None:
        """Take no more tasks, and release those whose jobs have not ended: nobody here works on
        them any longer. Results of the others are still stored."""
        self._draining.set()
        self._giving_back.set()

    async def run(self) -> None:
        """Returns once it is drained, or through with its one task.

        Raises ``Unavailable`` when it runs once and the source does not answer.
        """
        taking = asyncio.create_task(self._take_while_welcome())
        draining = asyncio.create_task(self._draining.wait())
        try:
            await asyncio.wait((taking, draining), return_when=asyncio.FIRST_COMPLETED)
            await _stop(taking)
            if self._under_way:
                await asyncio.wait(self._under_way)
        finally:
            for task in (taking, draining, *self._under_way):
                await _stop(task)
        if not taking.cancelled():
            taking.result()

    async def _take_while_welcome(self) -> None:
        while True:
            while len(self._under_way) >= self._max_tasks:
                self._room.clear()
                await self._room.wait()
            delivery = await self._next()
            if delivery is not None:
                self._begin(delivery)
            if self._once:
                return

    async def _next(self) -> TaskDelivery | None:
        try:
            return await self._source.receive(
                visibility=self._visibility,
                timeout=_ONCE_PATIENCE if self._once else _LONGEST_POLL,
            )
        except Unavailable as error:
            if self._once:
                raise
            log.warning("no task can be had: %s", error)
            await asyncio.sleep(_RETRY_SECONDS)
            return None

    def _begin(self, delivery: TaskDelivery) -> None:
        if not self._under_way:
            self._on_busy(True)  # noqa: FBT003 - what a callback is told
        handling = asyncio.create_task(self._handle(delivery), name=f"task-{delivery.task.id}")
        self._under_way.add(handling)
        handling.add_done_callback(self._ended)
        self.began.set()

    def _ended(self, handling: asyncio.Task[None]) -> None:
        self._under_way.discard(handling)
        self._room.set()
        if not self._under_way:
            self._on_busy(False)  # noqa: FBT003 - what a callback is told
        if not handling.cancelled() and (error := handling.exception()):
            log.error("%s is left to come again", handling.get_name(), exc_info=error)

    async def _handle(self, delivery: TaskDelivery) -> None:
        """See one task through, hidden from others meanwhile."""
        parent = self._traces.read(delivery.task.headers)
        attributes = {"sfumato.task": delivery.task.id}
        span = self._traces.span(
            "task", parent=parent, kind=SpanKind.CONSUMER, attributes=attributes
        )
        with span, working_on(traceparent=span.traceparent or parent):
            await self._handle_hidden(delivery)

    async def _handle_hidden(self, delivery: TaskDelivery) -> None:
        work = asyncio.create_task(self._answer(delivery))
        hiding = asyncio.create_task(self._keep_hidden(delivery))
        try:
            await asyncio.wait((work, hiding), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                log.warning("task %s is no longer ours; dropped", delivery.task.id)
        finally:
            await _stop(hiding)
            await _stop(work)
        if not work.cancelled():
            work.result()

    async def _keep_hidden(self, delivery: TaskDelivery) -> None:
        """Returns when the task is no longer ours."""
        while True:
            await asyncio.sleep(self._visibility / 3)
            try:
                if not await delivery.extend(self._visibility):
                    return
            except SfumatoError as error:
                log.warning("task %s could not be kept hidden: %s", delivery.task.id, error)

    async def _answer(self, delivery: TaskDelivery) -> None:
        task = delivery.task
        try:
            ended = await self._job_of(task)
            if ended is None:
                log.info("task %s is given back; its job has not ended", task.id)
                await delivery.release()
                return
            await self._deliver(task, ended)
            await delivery.ack()
        except Overloaded as error:
            log.info("task %s waits: %s", task.id, error)
            await delivery.release(delay=error.retry_after)
        except (Unavailable, NotFound) as error:
            log.warning("task %s comes again later: %s", task.id, error)
            await self._set_back(delivery)

    async def _job_of(self, task: Task) -> Job | JobError | None:
        """The task's job once it has ended; the error when there can be no such job; None when
        this intake gives back what has not ended."""
        try:
            job = await self._submission.submit(
                task.request, inputs=task.inputs, idempotency_key=f"task:{task.id}"
            )
        except (Overloaded, Unavailable):
            raise
        except SfumatoError as error:
            return JobError.of(error)
        giving_back = asyncio.create_task(self._giving_back.wait())
        starting = asyncio.create_task(self._started(task, job))
        try:
            while not job.status.finished:
                waiting = asyncio.create_task(self._tracking.wait(job.id, timeout=_LONGEST_POLL))
                await asyncio.wait((waiting, giving_back), return_when=asyncio.FIRST_COMPLETED)
                if not waiting.done():
                    await _stop(waiting)
                    job = await self._tracking.get(job.id)
                    return job if job.status.finished else None
                job = waiting.result()
        finally:
            await _stop(giving_back)
            await _stop(starting)
        return job

    async def _started(self, task: Task, job: Job) -> None:
        """Tells once that a worker draws; a task that comes again may be told of again."""
        if not self._tell_started:
            return
        try:
            async for event in self._tracking.events(job.id):
                if event.kind is EventKind.STARTED:
                    await self._sink.started(task)
                    return
        except SfumatoError as error:
            log.warning("that task %s runs was not told: %s", task.id, error)

    async def _deliver(self, task: Task, ended: Job | JobError) -> None:
        for delay in _STORE_DELAYS:
            try:
                return await self._deliver_once(task, ended)
            except StorageFull:
                raise
            except Unavailable as error:
                log.warning("results of task %s: %s; trying again in %g s", task.id, error, delay)
                await asyncio.sleep(delay)
        return await self._deliver_once(task, ended)

    async def _deliver_once(self, task: Task, ended: Job | JobError) -> None:
        if isinstance(ended, JobError):
            await self._sink.failed(task, ended)
        elif ended.status is JobStatus.SUCCEEDED:
            images = [await self._tracking.image(ended.id, record.index) for record in ended.images]
            await self._sink.succeeded(task, ended, images)
        else:
            await self._sink.failed(task, failure_of(ended))

    async def _set_back(self, delivery: TaskDelivery) -> None:
        try:
            await delivery.release(delay=_SET_BACK_SECONDS)
        except Unavailable as error:
            log.warning("task %s is left to its visibility: %s", delivery.task.id, error)


async def _stop(task: asyncio.Future[Any]) -> None:
    """Cancel a task and see it end; how it ended is looked at elsewhere."""
    task.cancel()
    await asyncio.wait((task,))
