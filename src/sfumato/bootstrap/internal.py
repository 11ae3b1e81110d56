"""The port of probes and metrics, of a service's or a worker's process."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator

from sfumato.api.internal import Page, Pages, create_internal_app
from sfumato.bootstrap.listening import listen
from sfumato.settings import Settings
from sfumato.worker.health import Finding, Health

log = logging.getLogger(__name__)


@contextlib.contextmanager
def serve_internally(settings: Settings, pages: Pages) -> Iterator[None]:
    """Answer these pages at the internal port, where there is one, for as long as the block runs.

    In a thread of its own, so that a stuck event loop is told of, and a busy one is not asked.

    Raises:
        PortTaken: with what to do.
    """
    if settings.internal_port is None:
        yield
        return
    import uvicorn  # noqa: PLC0415 - a worker without probes does without

    advice = "Set SFUMATO_INTERNAL_PORT to another."
    where = settings.internal_host, settings.internal_port
    with listen(*where, field="internal_port", advice=advice) as listener:
        server = uvicorn.Server(
            uvicorn.Config(
                create_internal_app(pages),
                access_log=False,
                log_config=None,
                lifespan="off",
                loop="asyncio",
                server_header=False,
                timeout_graceful_shutdown=1,
            )
        )
        thread = threading.Thread(
            target=server.run, args=([listener],), name="internal", daemon=True
        )
        thread.start()
        log.info("%s are answered at port %d", ", ".join(pages), listener.getsockname()[1])
        try:
            yield
        finally:
            server.should_exit = True
            thread.join()


def probes_of(health: Health) -> Pages:
    """What a cluster asks a worker."""
    return {
        "/startupz": _probe(health.startup),
        "/readyz": _probe(health.readiness),
        "/livez": _probe(health.liveness),
    }


def _probe(look: Callable[[], Finding]) -> Callable[[str], Page]:
    def page(_accept: str) -> Page:
        finding = look()
        return Page.of_text(200 if finding.ok else 503, finding.text)

    return page
