"""Which service, and which key, a command takes from its options, the environment and the file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sfumato.cli.config import read_config
from sfumato.cli.connection import Address, Target
from sfumato.core.errors import StartupRefused

SECRET = "sfk_very-secret"
FILE = f'server = "https://file.example"\nkey = "{SECRET}"\n'


def write(folder: Path, text: str, mode: int = 0o600) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "config.toml").write_text(text)
    (folder / "config.toml").chmod(mode)


def named(server: str | None = None, key: str | None = None) -> Address | None:
    return Target.of(server, key, None).named


def test_options_go_before_the_environment_before_the_file(
    config_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert named() is None
    write(config_folder, FILE)
    assert named() == Address("https://file.example", SECRET)
    assert named(key="sfk_option") == Address("https://file.example", "sfk_option")
    monkeypatch.setenv("SFUMATO_SERVER", "https://variable.example")
    monkeypatch.setenv("SFUMATO_KEY", "sfk_variable")
    assert named() == Address("https://variable.example", "sfk_variable")
    assert named("https://option.example", "sfk_option") == Address(
        "https://option.example", "sfk_option"
    )


def test_the_files_key_is_for_the_files_server_alone(config_folder: Path) -> None:
    write(config_folder, FILE)
    assert named("https://elsewhere.example") == Address("https://elsewhere.example", None)
    assert named("https://file.example/") == Address("https://file.example/", SECRET)


def test_a_data_folder_that_was_asked_for_goes_before_a_server_that_was_not(
    config_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(config_folder, FILE)
    monkeypatch.setenv("SFUMATO_SERVER", "https://variable.example")
    target = Target.of(None, None, tmp_path)
    assert (target.named, target.running()) == (None, None)
    assert target.private("http://127.0.0.1:1").key is None
    monkeypatch.setenv("SFUMATO_KEY", "sfk_variable")
    assert Target.of(None, None, tmp_path).private("http://127.0.0.1:1").key is None
    monkeypatch.setenv("SFUMATO_REQUIRE_KEY", "true")
    assert Target.of(None, None, tmp_path).private("http://127.0.0.1:1").key == "sfk_variable"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f'key = "{SECRET}', "is no TOML"),
        (f'key = "{SECRET}"', "not the server"),
        ("server = 5", "a server that is no text"),
        ('serber = "https://a.example"', "'serber'"),
    ],
)
def test_a_file_that_says_something_else_is_refused_without_repeating_it(
    config_folder: Path, text: str, words: str
) -> None:
    write(config_folder, text)
    with pytest.raises(StartupRefused, match=words) as caught:
        read_config()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_key_that_others_may_read_is_refused(config_folder: Path, mode: int) -> None:
    write(config_folder, FILE, mode)
    with pytest.raises(StartupRefused, match="chmod 600"):
        read_config()
    write(config_folder, 'server = "https://file.example"', mode)
    assert read_config().server == "https://file.example"


def test_no_key_is_shown_where_things_are_printed(config_folder: Path) -> None:
    write(config_folder, FILE)
    target = Target.of(None, "sfk_option", None)
    shown = f"{target} {target.named} {read_config()} {target.settings}"
    assert SECRET not in shown
    assert "sfk_option" not in shown


def completed(words: list[str]) -> list[str]:
    """What bash offers for the last word, as it would for a person who presses Tab."""
    script = (
        'eval "$(sfumato completion bash)"; '
        f"COMP_WORDS=({' '.join(map(json.dumps, words))}); COMP_CWORD={len(words) - 1}; "
        '_sfumato_completion sfumato; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ran = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": path},
    )
    return ran.stdout.split()


def test_bash_completes_commands_options_and_choices() -> None:
    assert completed(["sfumato", "gen"]) == ["generate"]
    assert completed(["sfumato", "jobs", "list", "--stat"]) == ["--status"]
    assert completed(["sfumato", "generate", "--preview", ""]) == ["kitty", "iterm", "none"]
