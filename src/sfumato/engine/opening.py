"""The engine, imported and built as fast as it can be: a new worker pays for this every time."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sfumato.engine.any_family import AnyEngine


def open_engine(
    device: str = "auto",
    dtype: str = "auto",
    threads: int | None = None,
    model_memory: int | None = None,
    gpu_share: float | None = None,
) -> AnyEngine:
    """A :class:`sfumato.engine.any_family.AnyEngine`; imports torch, which takes seconds.

    The arguments are those of :class:`sfumato.engine.engine.DiffusionEngine`.

    Raises:
        StartupRefused: there is no such device or dtype here.
    """
    _bound_spinning()
    with _collector_paused():
        from sfumato.engine.any_family import AnyEngine  # noqa: PLC0415 - seconds of torch
        from sfumato.engine.engine import DiffusionEngine  # noqa: PLC0415
    return AnyEngine(DiffusionEngine(device, dtype, threads, model_memory, gpu_share))


def _bound_spinning() -> None:
    """How long torch's CPU threads spin while they wait for each other, before they sleep.

    A turn's length is the processor's own: an x86 pause takes 140 cycles on one and 40 on another.
    A picture of the starter model, 12 steps on two cores of either kind, idle: 0.25 s with 5,000
    turns or more, and 1.45 s with 5,000, 0.63 s with 20,000, 0.75 s with libgomp's own 300,000.
    Beside three busy programs on the latter: 2.8, 3.8 and 6.4 s. OpenMP reads this once, when torch
    is imported; what the user has set stands.
    """
    if "OMP_WAIT_POLICY" not in os.environ:  # noqa: TID251 - the C runtime's, not ours
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")  # noqa: TID251


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
