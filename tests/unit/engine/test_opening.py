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
print(type(engine).__name__, os.environ["OMP_WAIT_POLICY"], gc.isenabled())
"""


@pytest.mark.parametrize(
    ("set_by_the_user", "expected"), [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")]
)
def test_threads_sleep_unless_the_user_says_otherwise(
    set_by_the_user: dict[str, str], expected: str
) -> None:
    clean = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        check=True,
        capture_output=True,
        text=True,
        env=clean | set_by_the_user,
    )
    assert done.stdout.split() == ["DiffusionEngine", expected, "True"]
