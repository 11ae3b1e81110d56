"""``sfumato generate --stream`` on terminals, and read by a program."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.service import PATIENCE, ServiceProcess

KITTY = {"TERM": "xterm-kitty"}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    with ServiceProcess(tmp_path / "data", {"device": "fake:0.1"}) as running:
        yield running


class Terminal:
    """A command whose standard error is a terminal that says what it is."""

    def __init__(self, folder: Path, url: str, told: Mapping[str, str], *arguments: str) -> None:
        self._theirs: int | None
        self._ours, self._theirs = pty.openpty()
        self.modes = termios.tcgetattr(self._theirs)
        ours = ("SFUMATO", "TERM", "LC_TERM", "KITTY", "TMUX")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "sfumato", "generate", "a castle", "--seed=7"),
                *(f"--server={url}", *arguments),
            ],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=self._theirs,
            text=True,
            env={**environment, **told, "PYTHONPATH": str(Path.cwd()), "COLUMNS": "80"},
        )
        self.shown = b""
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        try:
            while piece := os.read(self._ours, 65_536):
                with self._more:
                    self.shown += piece
                    self._more.notify_all()
        except OSError:
            pass  # how Linux says that the other end of a terminal was closed

    def until(self, words: bytes) -> None:
        with self._more:
            assert self._more.wait_for(lambda: words in self.shown, PATIENCE)

    def end(self) -> tuple[int, str]:
        """Its status and standard output."""
        out, _ = self.process.communicate(timeout=PATIENCE)
        assert self._theirs is not None
        assert termios.tcgetattr(self._theirs) == self.modes, "the terminal is as it was"
        self._hang_up()
        return self.process.returncode, out

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self._hang_up()
        os.close(self._ours)

    def _hang_up(self) -> None:
        if self._theirs is not None:
            os.close(self._theirs)
            self._theirs = None
        self._reader.join(PATIENCE)


@contextmanager
def terminal(
    folder: Path, service: ServiceProcess, told: Mapping[str, str], *arguments: str
) -> Iterator[Terminal]:
    opened = Terminal(folder, service.url, told, *arguments)
    try:
        yield opened
    finally:
        opened.close()


def test_a_terminal_that_shows_pictures_shows_previews(
    tmp_path: Path, service: ServiceProcess
) -> None:
    with terminal(tmp_path, service, KITTY, "--stream", "--steps=15") as command:
        command.until(b"a=T,f=100")
        status, out = command.end()
    assert status == 0
    assert "a-castle-7.png  seed 7" in out
    assert b"/15" in command.shown
    assert command.shown.endswith(b"\r\x1b[J"), "nothing of it stays"


@pytest.mark.parametrize(
    ("told", "arguments", "mark"),
    [
        ({"TERM": "xterm", "LC_TERMINAL": "iTerm2"}, ["--stream"], b"1337;File="),
        ({"TERM": "xterm"}, ["--stream", "--preview=iterm"], b"1337;File="),
        ({"TERM": "xterm"}, ["--stream"], None),
        (KITTY, ["--stream", "--preview=none"], None),
        (KITTY, [], None),
    ],
)
def test_others_show_what_they_can(
    tmp_path: Path,
    service: ServiceProcess,
    told: dict[str, str],
    arguments: list[str],
    mark: bytes | None,
) -> None:
    with terminal(tmp_path, service, told, *arguments, "--steps=10") as command:
        assert command.end()[0] == 0
    assert b"denoising" in command.shown
    if mark is None:
        assert not any(each in command.shown for each in (b"\x1b_G", b"1337;File="))
    else:
        assert mark in command.shown


def test_ctrl_c_clears_the_previews_and_cancels(tmp_path: Path, service: ServiceProcess) -> None:
    with terminal(tmp_path, service, KITTY, "--stream", "--steps=100") as command:
        command.until(b"a=T,f=100")
        command.process.send_signal(signal.SIGINT)
        status, out = command.end()
    assert (status, out) == (130, "")
    cleared = command.shown.index(b"\r\x1b[J", command.shown.rindex(b"a=d,d=I"))
    assert b"\x1b_G" not in command.shown[cleared:]
    (job,) = service.http.get("/v1/jobs").json()["jobs"]
    assert service.finished(job["id"])["status"] == "canceled"


def test_with_json_an_interruption_is_json_too(tmp_path: Path, service: ServiceProcess) -> None:
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "sfumato", "generate", "a castle", "--stream", "--json"),
            *("--steps=100", f"--server={service.url}"),
        ],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line)["event"] == "step":
                break
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, json.loads(err)["code"]) == (130, "interrupted")
    (job,) = service.http.get("/v1/jobs").json()["jobs"]
    assert service.finished(job["id"])["status"] == "canceled"


def test_a_program_reads_every_event_and_then_the_result(
    tmp_path: Path, service: ServiceProcess
) -> None:
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "sfumato", "generate", "a castle", "--stream", "--json"),
            *("--steps=10", "--seed=7", f"--server={service.url}"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    assert ran.stderr == ""
    *events, last = map(json.loads, ran.stdout.splitlines())
    assert [event["number"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["event"] == "succeeded"
    assert any(event.get("preview", "").startswith("data:image/") for event in events)
    assert last["event"] == "saved"
    assert [image["path"] for image in last["images"]] == ["a-castle-7.png"]
