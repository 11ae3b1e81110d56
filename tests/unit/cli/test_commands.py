"""Every command helps, every typo gets a suggestion, every error is one line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import typer.main
from typer.testing import CliRunner

import sfumato
from sfumato.cli.main import app, main
from sfumato.cli.models import Kind
from sfumato.core.models import ModelKind

runner = CliRunner()


def every_command() -> Iterator[list[str]]:
    """The path of each command and group, the root included."""
    waiting: list[tuple[list[str], object]] = [([], typer.main.get_command(app))]
    while waiting:
        path, command = waiting.pop()
        yield path
        for name, below in getattr(command, "commands", {}).items():
            waiting.append(([*path, name], below))


def run_main(
    capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int | str | None, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


@pytest.mark.parametrize("path", list(every_command()), ids=" ".join)
def test_every_command_has_help_with_an_example(path: list[str]) -> None:
    result = runner.invoke(app, [*path, "--help"])
    assert result.exit_code == 0
    assert f"Example: sfumato {' '.join(path)}".rstrip() in result.stdout
    assert result.stdout.split("\n\n")[1].strip(), "says what it does"


def test_models_are_listed_by_every_kind_there_is() -> None:
    assert set(get_args(Kind)) == {kind.value for kind in ModelKind}


def test_the_commands_are_these() -> None:
    assert {" ".join(path) for path in every_command()} == {
        *("", "generate", "batch", "reproduce", "serve", "worker", "doctor", "version"),
        *("completion", "costs"),
        *("database", "database migrate"),
        *("jobs", "jobs list", "jobs show", "jobs cancel"),
        *("keys", "keys create", "keys list", "keys revoke", "keys rotate"),
        *("models", "models list", "models show", "models add", "models remove"),
        "models plan",
        *("runtimes", "runtimes list"),
        *("tokens", "tokens create", "tokens list", "tokens revoke"),
    }


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["genrate", "a castle"], "generate"),
        (["jobs", "lst"], "list"),
        (["generate", "a castle", "--widht", "64"], "--width"),
        (["serve", "--prot", "1"], "--port"),
        (["generate", "a castle", "--format", "gif"], "webp"),
    ],
)
def test_a_typo_gets_a_suggestion(typed: list[str], meant: str) -> None:
    result = runner.invoke(app, typed)
    assert result.exit_code == 2
    assert meant in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["generate", " "], "prompt is empty"),
        (["generate", "x", "--width", "63"], "multiple of 8"),
        (["generate", "x", "--metadata", "[1]"], "not a JSON object"),
        (["generate", "x", "--preview", "kitty"], "--preview needs --stream"),
        (["models", "list", "--server", "http://127.0.0.1:1"], "(unreachable)"),
        (["serve", "--port", "70000"], "SFUMATO_PORT"),
    ],
)
def test_an_error_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    status, out, err = run_main(capsys, *arguments)
    assert (status, out) == (1, "")
    assert err.startswith("Error: ")
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "status", "facts"),
    [
        (
            ["generate", "x", "--width", "63"],
            1,
            {"code": "invalid_request", "field": "width", "accepted": "a multiple of 8"},
        ),
        (["jobs", "list", "--server", "http://127.0.0.1:1"], 1, {"code": "unreachable"}),
        (["generate", "x", "--mask", "gone.png"], 1, {"code": "os_error"}),
        (["generate", "x", "--widht", "63"], 2, {"code": "usage"}),
        (["genrate", "x"], 2, {"code": "usage"}),
    ],
)
def test_with_json_an_error_is_a_line_of_json_with_its_code(
    capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, facts: dict[str, str]
) -> None:
    code, out, err = run_main(capsys, *arguments, "--json")
    assert (code, out, err.count("\n")) == (status, "", 1)
    told = json.loads(err)
    assert told["message"]
    assert (
        told.items() >= {name: facts[name] for name in ("code", "field") if name in facts}.items()
    )
    assert facts.get("accepted", "") in told.get("accepted", "")


def test_with_json_help_and_success_end_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(capsys, "models", "list", "--json", "--help")[0] == 0
    status, out, err = run_main(capsys, "models", "list", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)[0]["name"]


def test_no_service_on_the_data_folder_says_what_to_do(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status, _, err = run_main(capsys, "jobs", "list", "--data", str(tmp_path))
    assert status == 1
    assert "sfumato serve" in err
    assert "--server" in err


def test_a_file_in_the_way_is_an_error_not_a_traceback(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("")
    status, _, err = run_main(capsys, "generate", "x", "--out", str(tmp_path / "out"))
    assert status == 1
    assert err == f"Error: {tmp_path / 'out'}: File exists\n"


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_the_version(arguments: list[str]) -> None:
    assert runner.invoke(app, arguments).stdout == f"sfumato {sfumato.__version__}\n"


def test_help_waits_for_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from sfumato.cli.main import main\n"
        "try: main(['--help'])\n"
        "finally: print([m for m in ('httpx', 'pydantic_settings', 'fastapi', 'sqlalchemy',"
        " 'obstore', 'torch', 'rich') if m in sys.modules])\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_models_are_listed_without_a_service(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, _ = run_main(capsys, "models", "list", "--data", str(tmp_path / "new"))
    assert code == 0
    assert "starter *" in out
    assert not (tmp_path / "new").exists(), "looking changes nothing"
