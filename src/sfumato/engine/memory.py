"""How much memory there is, and how much a row of the network's batch takes of it."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Hashable, Iterator
from pathlib import Path

import torch

#: Of the memory that is free, how much a step may take: the rest is for what nobody has measured.
_SHARE = 0.8
#: Of the memory that is free, how much weights may take; the rest is for the pictures.
_WEIGHTS_SHARE = 0.7
#: Estimate, in bytes per latent cell, of a row's working memory in float16, until it is measured:
#: some hundred and twenty activations as wide as Stable Diffusion's finest level, 320 channels.
_BYTES_PER_CELL = 80_000
#: Seconds for which an answer holds: asking the system takes longer than a short step can spare.
_FRESH = 1.0

#: The share of each GPU, by number, that this process may take; one that is missing: all of it.
_SHARES: dict[int, float] = {}

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


class RowMemory:
    """What a row costs, by batch key: measured on a GPU, estimated elsewhere."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device = device
        self._bytes_per_cell = _BYTES_PER_CELL * dtype.itemsize // 2
        self._measured: dict[Hashable, int] = {}
        self._limits: dict[Hashable, tuple[int, float]] = {}

    def rows(self, key: Hashable, cells: int) -> int | None:
        """How many rows of so many latent cells fit into free memory; None: unknown."""
        limit, asked_at = self._limits.get(key, (0, -_FRESH))
        now = time.monotonic()
        if now - asked_at >= _FRESH:
            free = available(self._device)
            if free is None:
                return None
            limit = int(free * _SHARE) // self._measured.get(key, cells * self._bytes_per_cell)
            self._limits[key] = limit, now
        return limit

    @contextlib.contextmanager
    def measured(self, key: Hashable, rows: int) -> Iterator[None]:
        """Measure the block, a step of so many rows; the dearest row counts."""
        if self._device.type != "cuda":
            yield
            return
        torch.cuda.reset_peak_memory_stats(self._device)
        before = torch.cuda.memory_allocated(self._device)
        yield
        taken = (torch.cuda.max_memory_allocated(self._device) - before) // rows
        if taken > self._measured.get(key, 0):
            self._measured[key] = taken
            self._limits.pop(key, None)

    def changed(self) -> None:
        """Memory was taken or given back: ask the system anew."""
        self._limits.clear()


class WeightBudget:
    """The bytes that all weights in memory may take together.

    Args:
        limit: None: what memory is free.

    Attributes:
        used: kept up to date by those who load and let go.
    """

    def __init__(self, device: torch.device, limit: int | None = None) -> None:
        self._device = device
        self._limit = limit
        self.used = 0

    def fits(self, size: int) -> bool:
        """Whether there is room for so many bytes more."""
        if self._limit is not None:
            return self.used + size <= self._limit
        free = available(self._device)
        return free is None or size <= free * _WEIGHTS_SHARE


def free_unused() -> None:
    """Give back what Python and torch still keep of things that nobody refers to."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def keep_to_share(device: torch.device, share: float) -> None:
    """Let this process take no more than a share of a GPU's memory, as where a GPU is sliced.

    Beyond it an allocation fails as it does where a GPU is full: the neighbours' pictures go on. The
    driver's own memory for a process, some hundred MiB, is not counted. Other devices have no slices.

    Args:
        share: above 0, at most 1.
    """
    if device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(share, device)
        _SHARES[device.index or 0] = share


def left(*, free: int, whole: int, reserved: int, allocated: int, share: float) -> int:
    """Bytes that a process can still take on a GPU.

    Args:
        free: that nobody has.
        whole: of the GPU.
        reserved: that this process has taken from the GPU, of which ``allocated`` are in use.
        share: of ``whole`` that this process may take.
    """
    to_be_taken = min(free, int(whole * share) - reserved)
    return max(0, to_be_taken + reserved - allocated)


def available(device: torch.device) -> int | None:
    """Bytes that can still be taken on a device; None where that can't be told."""
    if device.type == "cuda":
        free, whole = torch.cuda.mem_get_info(device)
        return left(
            free=free,
            whole=whole,
            reserved=torch.cuda.memory_reserved(device),
            allocated=torch.cuda.memory_allocated(device),
            share=_SHARES.get(device.index or 0, 1.0),
        )
    if device.type == "cpu":
        return _least(_of_machine(), _of_container())
    return None


def total(device: torch.device) -> int | None:
    """Bytes that a device has for this process, free or not; None where that can't be told."""
    if device.type == "cuda":
        whole = torch.cuda.get_device_properties(device).total_memory
        return int(whole * _SHARES.get(device.index or 0, 1.0))
    if device.type == "cpu":
        return _least(_of_machine("MemTotal"), _limit_of_container())
    return None


def _of_machine(what: str = "MemAvailable") -> int | None:
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if what in line), None)


def _limit_of_container() -> int | None:
    try:
        limit = (_CGROUP / "memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(limit) if limit.isdecimal() else None


def _of_container() -> int | None:
    try:
        limit, used = (
            (_CGROUP / name).read_text(encoding="ascii")
            for name in ("memory.max", "memory.current")
        )
        stat = (_CGROUP / "memory.stat").read_text(encoding="ascii").split()
    except OSError:
        return None
    if not limit.strip().isdecimal():
        return None
    # File pages count as used, but are given back when something else needs the room.
    cached = int(stat[stat.index("inactive_file") + 1]) if "inactive_file" in stat else 0
    return max(0, int(limit) - int(used) + cached)


def _least(*known: int | None) -> int | None:
    return min((number for number in known if number is not None), default=None)
