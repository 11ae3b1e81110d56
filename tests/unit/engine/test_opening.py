from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from sfumato.engine import opening

CODE = """
import gc, os, sys
import sfumato.engine.opening as opening
assert "torch" not in sys.modules
engine = opening.open_engine("cpu", threads=1)
print(type(engine).__name__, os.environ.get("GOMP_SPINCOUNT"), gc.isenabled())
"""
OPENMP = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


@pytest.fixture
def as_many_threads() -> Iterator[None]:
    """After the test there are as many as before."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_threads_soon_sleep_since_that_is_set_before_torch_is_loaded() -> None:
    clean = {key: value for key, value in os.environ.items() if key not in OPENMP}
    done = subprocess.run(
        [sys.executable, "-c", CODE], check=True, capture_output=True, text=True, env=clean
    )
    assert done.stdout.split() == ["AnyEngine", "20000", "True"]


@pytest.mark.usefixtures("as_many_threads")
@pytest.mark.parametrize(
    ("name", "value", "spins"),
    [("GOMP_SPINCOUNT", "7", "7"), ("OMP_WAIT_POLICY", "passive", None)],
)
def test_what_the_user_says_of_threads_stays(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, spins: str | None
) -> None:
    for variable in OPENMP:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, value)
    opening.open_engine("cpu", threads=1)
    assert os.environ.get("GOMP_SPINCOUNT") == spins
    assert gc.isenabled()
