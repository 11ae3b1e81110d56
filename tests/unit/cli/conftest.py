"""Whoever runs the tests may have a service and a key of his own; no test may meet them."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def config_folder(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The folder of the user's ``config.toml``, empty; and no service in the environment."""
    folder = tmp_path_factory.mktemp("config")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    for name in ("SERVER", "KEY"):
        monkeypatch.delenv(f"SFUMATO_{name}", raising=False)
    return folder / "sfumato"
