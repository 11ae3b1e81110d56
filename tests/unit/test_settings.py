"""Settings: precedence, children, and errors that name the variable."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sfumato.core.errors import StartupRefused
from sfumato.settings import Settings


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"SFUMATO_{name.upper()}", raising=False)


def test_the_command_line_goes_before_the_environment_before_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert Settings.load().port == 8080
    monkeypatch.setenv("SFUMATO_PORT", "9000")
    assert Settings.load(port=None).port == 9000
    assert Settings.load(port=0).port == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "70000"),
        ("port", "http"),
        ("lease", "0"),
        ("max_jobs", "0"),
        ("gpu_memory_fraction", "0"),
        ("gpu_memory_fraction", "1.5"),
        ("grace", "-1"),
        ("s3_endpoint", "//127.0.0.1:9000"),
        ("aws_endpoint", "localhost:4566"),
    ],
)
def test_a_wrong_setting_is_named_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"SFUMATO_{name.upper()}", value)
    with pytest.raises(StartupRefused, match=f"SFUMATO_{name.upper()}") as caught:
        Settings.load()
    assert caught.value.field == name


def test_a_child_gets_the_very_same_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = Settings.load(
        data=tmp_path,
        port=0,
        idle_timeout=1.5,
        warm=True,
        model_folders=(tmp_path / "a b", tmp_path / "c"),
        database_url="sqlite:////x.db",
        runtimes=[{"name": "fast", "models": ["sd-turbo"], "idle_timeout": 5}, {"name": "all"}],
    )
    monkeypatch.setenv("SFUMATO_KEY", "sfk_secret")
    assert "sfk_secret" not in settings.for_child().values()
    monkeypatch.delenv("SFUMATO_KEY")
    for name, value in settings.for_child().items():
        monkeypatch.setenv(name, value)
    assert Settings.load() == settings


def test_everything_embedded_lies_in_the_data_folder(tmp_path: Path) -> None:
    settings = Settings.load(data=tmp_path)
    assert settings.resolved_database_url == f"sqlite:///{tmp_path / 'sfumato.db'}"
    assert settings.resolved_images_url == str(tmp_path / "images")
    assert settings.resolved_model_folders == (tmp_path / "models",)


def test_every_setting_is_documented_and_nothing_else() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"
    named = set(re.findall(r"^\| `SFUMATO_([A-Z0-9_]+)` ", page.read_text(), re.MULTILINE))
    assert named == {name.upper() for name in Settings.model_fields}


def test_another_systems_variables_count_where_ours_say_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "AMQP_URL": "amqp://there",
        "Q_NAME": "theirs",
        "EXIT_AFTER_ONE_TASK": "1",
        "FLAG_FILE": "",
    }.items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    assert (settings.tasks_url, settings.tasks_queue) == ("amqp://there", "theirs")
    assert (settings.tasks_once, settings.tasks_flag_file) == (True, None)
    monkeypatch.setenv("SFUMATO_TASKS_QUEUE", "ours")
    assert Settings.load().tasks_queue == "ours"
    monkeypatch.setenv("EXIT_AFTER_ONE_TASK", "perhaps")
    with pytest.raises(StartupRefused, match=r"variable SFUMATO_TASKS_ONCE\)") as caught:
        Settings.load()
    assert caught.value.field == "tasks_once"


@pytest.mark.parametrize(
    "runtimes",
    [
        '[{"name": "Not a name"}]',
        '[{"name": "a", "modles": []}]',
        '[{"name": "a"}, {"name": "a"}]',
        '[{"name": "a", "max_workers": -1}]',
    ],
)
def test_a_wrong_runtime_is_refused(monkeypatch: pytest.MonkeyPatch, runtimes: str) -> None:
    monkeypatch.setenv("SFUMATO_RUNTIMES", runtimes)
    with pytest.raises(StartupRefused, match="RUNTIMES"):
        Settings.load()
