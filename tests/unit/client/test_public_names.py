"""What the package exports, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import sfumato
import sfumato.client


@pytest.mark.parametrize("module", [sfumato, sfumato.client])
def test_every_exported_name_is_there_and_sorted(module: object) -> None:
    names = module.__all__  # type: ignore[attr-defined]
    assert list(names) == sorted(names)
    for name in names:
        assert getattr(module, name) is not None


def test_a_name_that_is_not_exported_is_not_there() -> None:
    with pytest.raises(AttributeError, match="Klient"):
        _ = sfumato.Klient  # type: ignore[attr-defined]


def test_importing_the_package_loads_no_client() -> None:
    loaded = "import sys, sfumato; print('httpx' in sys.modules); sfumato.Client; print('httpx' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "True"]
