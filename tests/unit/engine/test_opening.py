from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
import gc, os, sys
import sfumato.engine.opening as opening
assert "torch" not in sys.modules
engine = opening.open_engine("cpu", threads=1)
print(type(engine).__name__, os.environ.get("GOMP_SPINCOUNT"), gc.isenabled())
"""


@pytest.mark.parametrize(
    ("set_by_the_user", "expected"),
    [
        ({}, "20000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "passive"}, "None"),
    ],
)
def test_threads_soon_sleep_unless_the_user_says_otherwise(
    set_by_the_user: dict[str, str], expected: str
) -> None:
    openmp = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    clean = {key: value for key, value in os.environ.items() if key not in openmp}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        check=True,
        capture_output=True,
        text=True,
        env=clean | set_by_the_user,
    )
    assert done.stdout.split() == ["AnyEngine", expected, "True"]
