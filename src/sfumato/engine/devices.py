"""Which device and precision the engine computes with."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from sfumato.core.errors import StartupRefused
from sfumato.engine import memory
from sfumato.engine.weights import Placement

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def place(device: str, dtype: str = "auto") -> Placement:
    """The placement that settings ask for.

    Args:
        device: "auto", or a torch device such as "cpu", "cuda:1", "mps". Auto takes a GPU if
            there is one.
        dtype: "auto", "float32", "float16" or "bfloat16". Auto is float16 on a GPU, float32 on a
            CPU.

    Raises:
        StartupRefused: there is no such device or dtype here.
    """
    if device == "auto":
        mps = torch.backends.mps.is_available()
        device = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        where = torch.device(device)
        torch.empty(1, device=where)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise StartupRefused(
            f"The device {device!r} can't be used here: {reason}.",
            field="device",
            accepted='"auto", "cpu", "cuda", "cuda:<n>" or "mps"',
        ) from None
    if dtype == "auto":
        dtype = "float32" if where.type == "cpu" else "float16"
    if dtype not in _DTYPES:
        raise StartupRefused(
            f"There is no dtype {dtype!r}.", field="dtype", accepted=["auto", *_DTYPES]
        )
    return Placement(where, _DTYPES[dtype])


def memory_of(device: str) -> Callable[[], Mapping[str, int]]:
    """Tells the memory of the device that ``device`` stands for, in bytes: ``total`` and what is
    ``free``, as far as that can be told. Raises ``StartupRefused``."""
    where = place(device).device

    def look() -> Mapping[str, int]:
        sizes = {"total": memory.total(where), "free": memory.available(where)}
        return {state: size for state, size in sizes.items() if size is not None}

    return look


def describe_device(device: str) -> str:
    """The device that ``device`` stands for, in words. Raises ``StartupRefused``."""
    placement = place(device)
    precision = str(placement.dtype).removeprefix("torch.")
    if placement.device.type == "cuda":
        properties = torch.cuda.get_device_properties(placement.device)
        gibibytes = properties.total_memory / 2**30
        return f"{placement.device}: {properties.name}, {gibibytes:.0f} GiB, {precision}"
    if placement.device.type == "cpu":
        return f"cpu: {torch.get_num_threads()} threads, {precision}"
    return f"{placement.device}, {precision}"
