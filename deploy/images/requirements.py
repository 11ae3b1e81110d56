"""What the images install beside Sfumato itself: ``python requirements.py EXTRA…``.

Prints the requirements of ``pyproject.toml``, those of the named extras included, one a line. pip
installs a project's dependencies only together with the project; here they make a layer of their
own, which a change of our code does not touch.
"""

# ruff: noqa: INP001  # a script, by itself in the builder
from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: Path, extras: list[str]) -> list[str]:
    """The project's requirements and those of ``extras``, each once, sorted.

    Raises:
        SystemExit: an extra is not in ``pyproject``.
    """
    project = tomllib.loads(pyproject.read_text())["project"]
    known = project["optional-dependencies"]
    for extra in extras:
        if extra not in known:
            sys.exit(f"pyproject.toml has no extra {extra!r}; it has: {', '.join(sorted(known))}")
    return sorted({*project["dependencies"], *(line for extra in extras for line in known[extra])})


if __name__ == "__main__":
    sys.stdout.writelines(
        f"{line}\n" for line in requirements(Path("pyproject.toml"), sys.argv[1:])
    )
