"""How a service starts worker processes of its own machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sfumato.settings import Settings

#: A network's layers ask for the same megabytes at every step. By default the C library gives them
#: back to the system in between, and the system clears them again, 4 KiB at a time. The UNet of the
#: starter takes an eighth less of a step without that, at any size.
_ALLOCATOR = ":".join(
    (
        "glibc.malloc.hugetlb=1",
        f"glibc.malloc.mmap_threshold={64 << 20}",
        f"glibc.malloc.trim_threshold={512 << 20}",
    )
)


def worker_command(runtime: str, worker: str, started_at: float) -> Sequence[str]:
    """The command line of a worker process of this machine."""
    return [
        sys.executable,
        "-m",
        "sfumato.bootstrap.work",
        f"--runtime={runtime}",
        f"--name={worker}",
        f"--started-at={started_at}",
    ]


def worker_environment(settings: Settings) -> dict[str, str]:
    """The environment of such a process; what the user has set of the C library stands."""
    return {"GLIBC_TUNABLES": _ALLOCATOR, **settings.for_child()}
