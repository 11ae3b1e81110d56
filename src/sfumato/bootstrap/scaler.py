"""KEDA's external scaler, where the operator wants one."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator

from sfumato.bootstrap.parts import Parts
from sfumato.core.errors import StartupRefused
from sfumato.services.activity import RuntimeActivity
from sfumato.services.placement import JOBS_PER_WORKER, Scaling
from sfumato.settings import Settings

log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def open_scaler(settings: Settings, parts: Parts, scaling: Scaling) -> AsyncIterator[None]:
    """Listen at ``scaler_port`` while the block runs; without one, nothing.

    Raises:
        StartupRefused: gRPC is not installed, or the port is taken.
    """
    if settings.scaler_port is None:
        yield
        return
    try:
        from sfumato.adapters.keda import serve_scaler  # noqa: PLC0415 - only where it is asked for
    except ImportError as error:
        raise StartupRefused(
            f"SFUMATO_SCALER_PORT needs {error.name}, which is not installed: "
            "pip install 'sfumato[keda]'.",
            field="scaler_port",
        ) from None
    signals = RuntimeActivity(scaling=scaling, store=parts.store, watcher=parts.watcher)
    async with serve_scaler(
        signals, host=settings.host, port=settings.scaler_port, target=JOBS_PER_WORKER
    ) as port:
        log.info("KEDA's external scaler listens at port %d", port)
        yield
