"""The service process: the API, recovery, and the supervisor of this machine's workers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import uvicorn

from sfumato.adapters.processes import ProcessWorkerPool
from sfumato.api.app import create_app
from sfumato.api.context import ApiContext, RemoteParts
from sfumato.api.dialects import aws, render
from sfumato.api.schemas import RuntimeReport
from sfumato.api.workers import LISTED_SECONDS
from sfumato.bootstrap.cluster import open_cluster_reasons
from sfumato.bootstrap.credentials import keep_credentials
from sfumato.bootstrap.folder import hold
from sfumato.bootstrap.internal import serve_internally
from sfumato.bootstrap.listening import listen
from sfumato.bootstrap.logs import configure_logging
from sfumato.bootstrap.parts import Parts, submission_of
from sfumato.bootstrap.remote_service import open_remote
from sfumato.bootstrap.scaler import open_scaler
from sfumato.bootstrap.starting import open_parts_patiently
from sfumato.bootstrap.stopping import on_signals, stdin_ended
from sfumato.bootstrap.tasks import open_task_sink
from sfumato.bootstrap.telemetry import SERVICE, open_telemetry
from sfumato.bootstrap.worker_processes import worker_command, worker_environment
from sfumato.core.errors import SfumatoError, StartupRefused
from sfumato.core.ports import ApiKeys, Clock
from sfumato.services.access import Access
from sfumato.services.costs import Costs
from sfumato.services.placement import Scaling, Supervisor
from sfumato.services.recovery import Recovery
from sfumato.services.task_results import TaskResults
from sfumato.services.tracking import Tracking
from sfumato.services.waiting import WaitingReasons
from sfumato.services.webhooks import WebhookTeller
from sfumato.settings import Settings

log = logging.getLogger(__name__)

#: Seconds that open connections get once the service is told to stop.
_CONNECTION_GRACE = 2


def serve(
    settings: Settings,
    *,
    announce: Callable[[str], None],
    exit_with_stdin: bool = False,
    clock: Clock | None = None,
) -> None:
    """Serve until told to stop; then drain the workers and leave no process behind.

    Args:
        announce: called with the service's URL once it listens.
        exit_with_stdin: stop when standard input ends, as it does when the parent dies.
        clock: in place of the machine's own.

    Raises:
        StartupRefused: or a kind of it, before anything was started.
    """
    configure_logging(settings)
    with hold(settings) as tell_folder, listen(settings.host, settings.port) as listener:
        host, port = listener.getsockname()[:2]
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"

        def listening(now: float) -> None:
            tell_folder(url, now)
            announce(url)

        asyncio.run(_serve(settings, listener, listening, clock, exit_with_stdin=exit_with_stdin))


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the whole process stops in our order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


async def _serve(
    settings: Settings,
    listener: socket.socket,
    listening: Callable[[float], None],
    clock: Clock | None,
    *,
    exit_with_stdin: bool,
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        telemetry = stack.enter_context(open_telemetry(settings, service=SERVICE))
        opening = open_parts_patiently(settings, clock=clock, telemetry=telemetry)
        parts = await stack.enter_async_context(opening)
        await keep_credentials(settings, parts)
        tasks = await stack.enter_async_context(open_task_sink(settings))
        pool = ProcessWorkerPool(
            worker_command, environment=worker_environment(settings), hear=telemetry.hear
        )
        recovery = Recovery(
            store=parts.store,
            queue=parts.queue,
            images=parts.images,
            clock=parts.clock,
            lease=settings.lease,
            retention=settings.retention_days and settings.retention_days * 86_400,
            ring_again_after=settings.ring_again_after,
            measures=telemetry.measures,
        )
        supervisor = Supervisor(
            runtimes=parts.runtimes,
            pool=pool,
            store=parts.store,
            recovery=recovery,
            watcher=parts.watcher,
            clock=parts.clock,
            warm=[runtime.name for runtime in parts.runtimes] if settings.warm else [],
        )
        remote = open_remote(settings, parts)
        cluster = await stack.enter_async_context(open_cluster_reasons(settings, parts.clock))
        waiting = WaitingReasons(supervisor.why_waiting, cluster)
        context = _context(settings, parts, supervisor, remote, waiting)
        deliver = {}
        if tasks is not None:
            sink, results_url = tasks
            context = replace(context, task_results_url=results_url)
            deliver[aws.STYLE] = TaskResults(
                images=parts.images, sink=sink, tell_started=settings.tasks_tell_running
            )
        if context.key_required:
            await _check_keys(parts.keys)
        server = _Server(
            uvicorn.Config(
                create_app(context),
                access_log=False,
                log_config=None,
                lifespan="off",
                timeout_graceful_shutdown=_CONNECTION_GRACE,
                server_header=False,
            )
        )

        def stop() -> None:
            context.stopping.set()
            server.stop()

        teller = WebhookTeller(
            hooks=parts.hooks,
            store=parts.store,
            web=parts.web,
            watcher=parts.watcher,
            clock=parts.clock,
            render=render,
            deliver=deliver,
        )
        telemetry.watch_queues(context.scaling, parts.runtimes, parts.hooks)
        stack.enter_context(serve_internally(settings, telemetry.pages))
        await stack.enter_async_context(open_scaler(settings, parts, context.scaling))
        background = [asyncio.create_task(_begin(recovery, supervisor, remote, teller, settings))]
        # Without its background a service would accept jobs and never run them.
        background[0].add_done_callback(lambda _task: stop())
        if exit_with_stdin:
            background.append(asyncio.create_task(_stop_with_stdin(stop)))
        listening(parts.clock.now())
        try:
            with on_signals(stop):
                await server.serve(sockets=[listener])
                log.info("stopping the workers")
                for task in background:
                    task.cancel()
                ended = await asyncio.gather(*background, return_exceptions=True)
                await pool.stop(grace=settings.grace + 5.0)
        finally:
            await pool.stop(grace=0)
        for error in ended:
            if isinstance(error, Exception):
                raise error


async def _begin(
    recovery: Recovery,
    supervisor: Supervisor,
    remote: RemoteParts,
    teller: WebhookTeller,
    settings: Settings,
) -> None:
    """Recover what an earlier process left, then keep recovering and supervising."""
    try:
        await recovery.start()
    except SfumatoError as error:
        log.warning("recovery begins later: %s", error)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(recovery.run(interval=settings.lease / 3))
        tasks.create_task(supervisor.run())
        tasks.create_task(remote.work.run())
        tasks.create_task(teller.run())


async def _stop_with_stdin(stop: Callable[[], None]) -> None:
    await stdin_ended()
    stop()


def _context(
    settings: Settings,
    parts: Parts,
    supervisor: Supervisor,
    remote: RemoteParts,
    waiting: WaitingReasons,
) -> ApiContext:
    submission = submission_of(settings, parts)
    tracking = Tracking(
        store=parts.store,
        queue=parts.queue,
        images=parts.images,
        watcher=parts.watcher,
        clock=parts.clock,
        hooks=parts.hooks,
        waiting=waiting,
        measures=parts.telemetry.measures,
    )

    async def report(runtime: str) -> RuntimeReport:
        counts = await parts.store.counts(runtime)
        heard_of = await parts.workers.list(since=parts.clock.now() - LISTED_SECONDS)
        theirs = {worker.name for worker in heard_of if worker.runtime == runtime}
        return RuntimeReport(
            workers=sorted(theirs.union(supervisor.workers(runtime))),
            queued=counts.queued,
            running=counts.running,
            waiting=await waiting.of(runtime) if counts.queued else None,
        )

    async def ready() -> Sequence[str]:
        await parts.store.counts(parts.runtimes[0].name)
        return []

    return ApiContext(
        submission=submission,
        tracking=tracking,
        catalog=parts.catalog,
        runtimes=parts.runtimes,
        runtime_report=report,
        ready=ready,
        workers=parts.workers,
        clock=parts.clock,
        costs=Costs(book=parts.costs, keys=parts.keys),
        scaling=Scaling(store=parts.store, runtimes=parts.runtimes, clock=parts.clock),
        access=Access(keys=parts.keys, clock=parts.clock),
        web=parts.web,
        remote=remote,
        key_required=settings.key_required,
        traces=parts.telemetry.traces,
        measures=parts.telemetry.measures,
    )


async def _check_keys(keys: ApiKeys) -> None:
    """Raises ``StartupRefused`` where callers need keys and nobody has one."""
    if not await keys.list():
        raise StartupRefused(
            "This address can be reached from elsewhere, so callers need a key, and there is none "
            "yet. Make one with `sfumato keys create --name me`, or let everybody in with "
            "SFUMATO_REQUIRE_KEY=false.",
            field="require_key",
        )
