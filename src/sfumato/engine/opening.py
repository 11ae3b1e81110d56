"""The engine, imported and built as fast as it can be: a new worker pays for this every time."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sfumato.engine.engine import DiffusionEngine


def open_engine(
    device: str = "auto", dtype: str = "auto", threads: int | None = None
) -> DiffusionEngine:
    """A :class:`sfumato.engine.engine.DiffusionEngine`; imports torch, which takes seconds.

    Raises:
        StartupRefused: there is no such device or dtype here.
    """
    with _collector_paused():
        from sfumato.engine.engine import DiffusionEngine  # noqa: PLC0415 - seconds of torch
    return DiffusionEngine(device, dtype, threads)


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Imports make objects by the hundred thousand and no garbage: searching them for some is a
    fifth of an import's time. They are then set apart, so that later searches pass over them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
