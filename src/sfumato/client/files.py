"""Writing pictures without ever losing what was there."""

from __future__ import annotations

import secrets
from pathlib import Path


def write_file(path: Path, data: bytes, *, overwrite: bool) -> None:
    """Write a whole file or none.

    Raises:
        FileExistsError: there is a file, and ``overwrite`` is not set.
        OSError: as the disk fails; then no half of a file is left.
    """
    if overwrite:
        staged = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        write_file(staged, data, overwrite=False)
        try:
            staged.replace(path)
        except OSError:
            staged.unlink()
            raise
        return
    # O_EXCL decides in one step, so no other process can come between a look and the write.
    with path.open("xb", buffering=0) as file:
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
        except BaseException:
            path.unlink()
            raise


def numbered(path: Path, count: int) -> list[Path]:
    """``castle.png`` for one file; ``castle-1.png``, ``castle-2.png`` … for several."""
    if count == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{n}{path.suffix}") for n in range(1, count + 1)]
