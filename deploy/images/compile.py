"""Byte code for a root that is read-only: ``python compile.py VENV [PACKAGE]``.

The byte code trusts its hash instead of the source's time, so nothing compares files at a start,
and it does not depend on when the image was built.
"""

# ruff: noqa: INP001  # a script, by itself in the builder
from __future__ import annotations

import compileall
import py_compile
import sys
from pathlib import Path


def compile_packages(folder: Path) -> None:
    # Some packages carry templates that end in .py and are none; pip skips those, too.
    compileall.compile_dir(
        folder,
        quiet=2,
        workers=0,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


if __name__ == "__main__":
    (packages,) = Path(sys.argv[1]).glob("lib/python*/site-packages")
    compile_packages(packages.joinpath(*sys.argv[2:]))
