from __future__ import annotations

import pytest

from sfumato.bootstrap.worker_processes import worker_environment
from sfumato.settings import Settings


def test_memory_is_not_given_back_between_steps_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    assert "mmap_threshold=67108864" in worker_environment(Settings())["GLIBC_TUNABLES"]
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=1")
    assert worker_environment(Settings())["GLIBC_TUNABLES"] == "glibc.malloc.arena_max=1"


def test_the_settings_of_the_service_go_along() -> None:
    environment = worker_environment(Settings(device="fake"))
    assert environment["SFUMATO_DEVICE"] == "fake"
