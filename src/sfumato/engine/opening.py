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
) -> AnyEngine:
    """A :class:`sfumato.engine.any_family.AnyEngine`; imports torch, which takes seconds.

    Raises:
        StartupRefused: there is no such device or dtype here.
    """
    _bound_spinning()
    with _collector_paused():
        from sfumato.engine.any_family import AnyEngine  # noqa: PLC0415 - seconds of torch
        from sfumato.engine.engine import DiffusionEngine  # noqa: PLC0415
    return AnyEngine(DiffusionEngine(device, dtype, threads, model_memory))


def _bound_spinning() -> None:
    """How long torch's CPU threads spin while they wait for each other, before they sleep.

    A picture of the starter model, 12 steps on two cores: idle, 0.25 s with 5,000 turns as with
    libgomp's own 300,000, but 0.5 s without any; beside three busy programs 3.0 s with 300,000,
    and 1.2 s with 5,000. OpenMP reads this once, when torch is imported; what the user has set
    stands.
    """
    if "OMP_WAIT_POLICY" not in os.environ:  # noqa: TID251 - the C runtime's, not ours
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # noqa: TID251


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
