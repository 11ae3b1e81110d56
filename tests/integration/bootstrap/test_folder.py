"""One service a data folder, and others find it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sfumato.bootstrap.folder import hold, running_service
from sfumato.core.errors import DataFolderInUse, StartupRefused
from sfumato.settings import Settings


def test_a_held_folder_tells_its_service_and_refuses_a_second(tmp_path: Path) -> None:
    settings = Settings.load(data=tmp_path / "new")
    assert running_service(settings) is None
    with hold(settings) as announce:
        announce("http://127.0.0.1:1", 5.0)
        assert running_service(settings) == "http://127.0.0.1:1"
        with pytest.raises(DataFolderInUse, match=f"process {os.getpid()}"), hold(settings):
            pass
        assert running_service(settings) == "http://127.0.0.1:1"
    assert running_service(settings) is None
    with hold(settings):
        pass


def test_what_a_killed_service_left_is_not_taken_for_one_that_runs(tmp_path: Path) -> None:
    (tmp_path / "service.json").write_text('{"pid": 1, "url": "http://127.0.0.1:1"}')
    assert running_service(Settings.load(data=tmp_path)) is None


@pytest.mark.parametrize("content", ["", "[]", '{"pid": 3}', "\x00"])
def test_a_damaged_announcement_is_no_service(tmp_path: Path, content: str) -> None:
    (tmp_path / "service.json").write_text(content)
    assert running_service(Settings.load(data=tmp_path)) is None


def test_a_folder_that_can_not_be_made_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = Settings.load(data=tmp_path / "file" / "below")
    with pytest.raises(StartupRefused, match="below"), hold(settings):
        pass
