"""The engine, imported and built as fast as it can be: a new worker pays for this every time."""

from __future__ import annotations

import contextlib
import gc
import os
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
    # torch's threads on a CPU spin while they wait for each other. On two cores that other
    # programs used too, that made a picture of the starter model take more than ten times as
    # long as with threads that sleep. OpenMP reads this once, when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # noqa: TID251 - the C runtime's, not ours
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
