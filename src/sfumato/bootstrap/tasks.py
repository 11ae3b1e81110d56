"""Where requests of other systems come from and their results go, by settings."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sfumato.adapters.objects import ObjectImageStore
from sfumato.bootstrap.images import bucket_options
from sfumato.bootstrap.parts import Parts, submission_of
from sfumato.core.errors import SfumatoError, StartupRefused
from sfumato.core.ports import Clock, TaskSink, TaskSource
from sfumato.services.intake import Intake
from sfumato.services.recovery import Recovery
from sfumato.services.tracking import Tracking
from sfumato.settings import Settings

if TYPE_CHECKING:
    from sfumato.adapters.sqs import SqsTaskSink

log = logging.getLogger(__name__)

_ACCEPTED = "amqp://…, amqps://… or sqs://region/queue"


@contextlib.asynccontextmanager
async def open_intake(settings: Settings, parts: Parts, *, once: bool) -> AsyncIterator[Intake]:
    """An intake of the tasks of ``SFUMATO_TASKS_URL``, ready to run.

    Beside it runs the recovery of jobs whose workers vanished, since there may be no service.

    Raises:
        StartupRefused: naming the setting that is wrong.
    """
    async with open_tasks(settings, parts.clock) as (source, sink):
        recovery = Recovery(
            store=parts.store,
            queue=parts.queue,
            images=parts.images,
            clock=parts.clock,
            lease=settings.lease,
            ring_again_after=settings.ring_again_after,
            measures=parts.telemetry.measures,
        )
        sweeping = asyncio.create_task(_recover(recovery, interval=settings.lease / 3))
        try:
            yield Intake(
                source=source,
                sink=sink,
                submission=submission_of(settings, parts),
                tracking=Tracking(
                    store=parts.store,
                    queue=parts.queue,
                    images=parts.images,
                    watcher=parts.watcher,
                    clock=parts.clock,
                    hooks=parts.hooks,
                    measures=parts.telemetry.measures,
                ),
                traces=parts.telemetry.traces,
                visibility=settings.lease,
                max_tasks=settings.max_jobs,
                once=once,
                tell_started=settings.tasks_tell_running,
                on_busy=_flag(settings.tasks_flag_file),
            )
        finally:
            sweeping.cancel()
            await asyncio.wait((sweeping,))


async def _recover(recovery: Recovery, *, interval: float) -> None:
    """Also what an earlier process left: a job that it had made, and not yet rung for."""
    try:
        await recovery.start()
    except SfumatoError as error:
        log.warning("recovery begins later: %s", error)
    await recovery.run(interval=interval)


@contextlib.asynccontextmanager
async def open_tasks(
    settings: Settings, clock: Clock
) -> AsyncIterator[tuple[TaskSource, TaskSink]]:
    """Where tasks come from and where results go. Raises ``StartupRefused``."""
    async with contextlib.AsyncExitStack() as stack:
        results = await _open_results(settings)
        stack.push_async_callback(results.close)
        source, sink = await _open_ends(settings, results, clock)
        stack.push_async_callback(sink.close)
        stack.push_async_callback(source.close)
        yield source, sink


@contextlib.asynccontextmanager
async def open_task_sink(settings: Settings) -> AsyncIterator[tuple[TaskSink, str] | None]:
    """Where a service puts the results of tasks that come over HTTP, and its URL: the bucket of
    ``SFUMATO_TASKS_RESULTS_URL``. None: it is told of none, or of RabbitMQ's, which has other tasks.

    Raises ``StartupRefused``.
    """
    theirs = urlsplit(settings.tasks_url or "").scheme in ("amqp", "amqps")
    if theirs or "://" not in (settings.tasks_results_url or ""):
        yield None
        return
    async with contextlib.AsyncExitStack() as stack:
        results = await _open_results(settings)
        stack.push_async_callback(results.close)
        sink = await _open_sqs_sink(settings, results, setting="tasks_results_url")
        stack.push_async_callback(sink.close)
        yield sink, _url_of(results.place).rstrip("/")


async def _open_results(settings: Settings) -> ObjectImageStore:
    url = settings.resolved_tasks_results_url
    try:
        results = ObjectImageStore(url, options=bucket_options(url, settings))
        await results.check()
    except StartupRefused as error:
        if settings.tasks_results_url is None:
            raise
        # The store knows its setting by the name that it has elsewhere.
        message = error.message.replace("SFUMATO_IMAGES_URL", "SFUMATO_TASKS_RESULTS_URL")
        raise StartupRefused(message, field="tasks_results_url") from None
    return results


async def _open_ends(
    settings: Settings, results: ObjectImageStore, clock: Clock
) -> tuple[TaskSource, TaskSink]:
    if settings.tasks_url is None:
        raise StartupRefused(
            "--tasks needs SFUMATO_TASKS_URL.",
            field="tasks_url",
            accepted=_ACCEPTED,
        )
    scheme = urlsplit(settings.tasks_url).scheme
    if scheme == "sqs":
        return await _open_sqs(settings, settings.tasks_url, results, clock)
    if scheme in ("amqp", "amqps"):
        return await _open_amqp(settings, settings.tasks_url, results)
    raise StartupRefused(
        f"SFUMATO_TASKS_URL has the scheme {scheme!r}, from which no tasks can be taken.",
        field="tasks_url",
        accepted=_ACCEPTED,
    )


async def _open_amqp(
    settings: Settings, url: str, results: ObjectImageStore
) -> tuple[TaskSource, TaskSink]:
    try:
        from sfumato.adapters.amqp import AmqpTaskSource, FlatTaskSink  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        raise StartupRefused(
            "SFUMATO_TASKS_URL asks for RabbitMQ, whose client is not installed: "
            "pip install 'sfumato[amqp]'.",
            field="tasks_url",
        ) from None
    source = await AmqpTaskSource.open(url, queue=settings.tasks_queue)
    return source, FlatTaskSink(results)


async def _open_sqs(
    settings: Settings, url: str, results: ObjectImageStore, clock: Clock
) -> tuple[TaskSource, TaskSink]:
    sink = await _open_sqs_sink(settings, results, setting="tasks_url")
    from sfumato.adapters.sqs import SqsTaskSource  # noqa: PLC0415 - an extra

    try:
        source = await SqsTaskSource.open(
            url, sink, clock, endpoint=settings.aws_endpoint, max_tasks=settings.max_jobs
        )
    except BaseException:
        await sink.close()
        raise
    return source, sink


async def _open_sqs_sink(
    settings: Settings, results: ObjectImageStore, *, setting: str
) -> SqsTaskSink:
    try:
        from sfumato.adapters.sqs import SqsTaskSink  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        raise StartupRefused(
            f"SFUMATO_{setting.upper()} asks for AWS, whose client is not installed: "
            "pip install 'sfumato[aws]'.",
            field=setting,
        ) from None
    return await SqsTaskSink.open(
        results,
        base_url=_url_of(results.place),
        topic_arn=settings.tasks_topic_arn,
        endpoint=settings.aws_endpoint,
        max_tasks=settings.max_jobs,
    )


def _flag(file: Path | None) -> Callable[[bool], None]:
    """What keeps a file for as long as a task is under way; other containers look at it."""

    def set_flag(busy: bool) -> None:  # noqa: FBT001 - as the intake tells it
        if file is None:
            return
        try:
            if busy:
                file.touch()
            else:
                file.unlink(missing_ok=True)
        except OSError as error:
            log.warning("the flag file %s could not be changed: %s", file, error.strerror)

    return set_flag


def _url_of(place: str) -> str:
    return place if "://" in place else Path(place).absolute().as_uri()
