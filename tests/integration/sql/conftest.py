from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sfumato.adapters.sql import Database
from sfumato.adapters.sql.dialects import sqlite


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
async def database(url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    """A database that waits for another's lock only as long as a test can."""
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.2)
    database = Database.open(url)
    yield database
    await database.close()
