"""``sfumato database migrate``: what a cluster runs before new pods."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from sfumato.adapters.sql.migrate import HEAD
from sfumato.cli.main import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int | str | None, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["database", "migrate", *arguments])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


def test_the_schema_is_brought_up_to_date_as_often_as_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    for _ in range(2):
        code, out, _ = run(capsys, "--data", str(data), "--json")
        assert (code, json.loads(out)) == (0, {"schema": HEAD})
    with sqlite3.connect(data / "sfumato.db") as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]
    database.close()


def test_a_newer_schema_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFUMATO_START_TIMEOUT", "600")
    run(capsys, "--data", str(tmp_path))
    with sqlite3.connect(tmp_path / "sfumato.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    code, _, err = run(capsys, "--data", str(tmp_path))
    assert code == 1
    assert "9999" in err


def test_an_unreachable_database_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFUMATO_DATABASE_URL", f"sqlite:///{tmp_path}/nowhere/sfumato.db")
    code, _, err = run(capsys, "--data", str(tmp_path))
    assert code == 1
    assert "nowhere" in err
