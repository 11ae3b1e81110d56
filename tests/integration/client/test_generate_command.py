"""``sfumato generate`` as a person runs it: a process, its private service, and their end."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil

from tests.support.png import png
from tests.support.service import PATIENCE, ServiceProcess

#: Slow enough to be interrupted between steps, whatever the machine.
SLOW = "fake:0.2"


class Command:
    """A running ``sfumato generate``, writing into a folder of its own.

    Its standard error is read line by line; that is where the progress goes.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        device: str = "fake",
        stdin: IO[bytes] | None = None,
    ) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SFUMATO_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sfumato", "generate", "a castle", *arguments],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={
                **environment,
                "SFUMATO_DEVICE": device,
                "SFUMATO_GRACE": "0.2",
                "SFUMATO_DATA": str(folder / "data"),
                "PYTHONPATH": str(Path.cwd()),
            },
        )

    def until(self, word: str) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if word in line:
                return
        raise AssertionError(f"{word!r} was never told")

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err


@contextmanager
def running(
    folder: Path, *arguments: str, device: str = "fake", stdin: IO[bytes] | None = None
) -> Iterator[Command]:
    """A command whose processes are all gone afterwards, or the test has failed."""
    command = Command(folder, *arguments, device=device, stdin=stdin)
    try:
        yield command
    finally:
        with command.process:
            command.process.kill()


def generate(folder: Path, *arguments: str, stdin: IO[bytes] | None = None) -> tuple[int, str, str]:
    with running(folder, *arguments, stdin=stdin) as command:
        return command.end()


def processes_on(folder: Path) -> list[list[str]]:
    """Command lines of every process that was given this data folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(folder) in process.environ().get("SFUMATO_DATA", ""):
                found.append(process.cmdline())
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def statuses(folder: Path) -> list[str]:
    """Of every job on the data folder, asked of a new service there."""
    with ServiceProcess(folder / "data") as service:
        return [job["status"] for job in service.http.get("/v1/jobs").json()["jobs"]]


def test_a_prompt_becomes_files_and_no_process_stays(tmp_path: Path) -> None:
    status, out, err = generate(tmp_path, "--seed=7", "--num-images=2", "--steps=4")
    assert status == 0, err
    first, second, seconds = out.splitlines()
    assert first == "a-castle-7.png  seed 7"
    assert second == "a-castle-8.png  seed 8"
    assert re.fullmatch(
        r"queued [\d.]+ s · starting [\d.]+ s · loading [\d.]+ s · "
        r"denoising [\d.]+ s · storing [\d.]+ s",
        seconds,
    )
    assert "denoising 8/8" in err.splitlines()
    assert (tmp_path / "a-castle-8.png").read_bytes().startswith(b"\x89PNG")
    assert processes_on(tmp_path) == []


def test_a_picture_is_read_from_a_file_or_from_standard_input(tmp_path: Path) -> None:
    (tmp_path / "in.png").write_bytes(png(64, 48))
    status, out, err = generate(tmp_path, "--init-image=in.png", "--strength=0.5", "--seed=7")
    assert (status, out.splitlines()[0]) == (0, "a-castle-7.png  seed 7"), err
    with (tmp_path / "in.png").open("rb") as file:
        status, out, err = generate(tmp_path, "--init-image=-", "--seed=8", stdin=file)
    assert (status, out.splitlines()[0]) == (0, "a-castle-8.png  seed 8"), err


def test_a_wrong_file_is_one_line_before_any_service_starts(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("no picture")
    for name, words in (("in.txt", "no picture that can be read"), ("gone.png", "gone.png")):
        status, out, err = generate(tmp_path, f"--init-image={name}")
        assert (status, out, len(err.splitlines())) == (1, "", 1)
        assert words in err
    assert not (tmp_path / "data").exists()


def test_json_is_all_that_a_program_reads_and_old_files_stay(tmp_path: Path) -> None:
    (tmp_path / "a-castle-7.png").write_text("mine")
    status, out, err = generate(tmp_path, "--seed=7", "--json", '--metadata={"a": 1}')
    assert status == 0, err
    told = json.loads(out)
    assert [image["path"] for image in told["images"]] == ["a-castle-7-2.png"]
    assert told["seed"] == 7
    assert set(told["timings"]) == {"queued", "starting", "loading", "denoising", "storing"}
    assert (tmp_path / "a-castle-7.png").read_text() == "mine"


def test_commands_at_once_on_one_data_folder_all_succeed(tmp_path: Path) -> None:
    with running(tmp_path, "--seed=1") as first, running(tmp_path, "--seed=2") as second:
        ended = [first.end(), second.end()]
    assert [status for status, _, _ in ended] == [0, 0], ended
    assert {path.name for path in tmp_path.glob("*.png")} == {"a-castle-1.png", "a-castle-2.png"}
    assert statuses(tmp_path) == ["succeeded", "succeeded"]


def test_ctrl_c_cancels_the_job_and_leaves_no_process(tmp_path: Path) -> None:
    with running(tmp_path, "--steps=100", device=SLOW) as command:
        command.until("denoising")
        command.process.send_signal(signal.SIGINT)
        status, out, err = command.end()
    assert (status, out) == (130, "")
    assert "Canceled job" in err
    assert "Traceback" not in err
    assert processes_on(tmp_path) == []
    assert statuses(tmp_path) == ["canceled"]
    assert list(tmp_path.glob("*.png")) == []


def test_a_killed_command_takes_its_service_with_it(tmp_path: Path) -> None:
    with running(tmp_path, "--steps=100", device=SLOW) as command:
        command.until("denoising")
        family = command.family()
        assert len(family) >= 2, "a service and its worker"
        command.process.kill()
        _, alive = psutil.wait_procs(family, timeout=PATIENCE)
        assert alive == []


def test_a_private_service_that_dies_is_told_and_not_started_again(tmp_path: Path) -> None:
    with running(tmp_path, "--steps=100", device=SLOW) as command:
        command.until("denoising")
        family = command.family()
        next(p for p in family if "serve" in p.cmdline()).kill()
        status, out, err = command.end()
        _, alive = psutil.wait_procs(family, timeout=PATIENCE)
    assert (status, out, alive) == (1, "", [])
    assert "The service of this command ended" in err.splitlines()[-1]
    assert "Traceback" not in err


def test_a_service_that_does_not_start_says_why_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file, not a folder")
    status, out, err = generate(tmp_path)
    assert (status, out) == (1, "")
    started, refused = err.splitlines()
    assert started == "starting a service"
    assert refused.startswith("Error: The data folder")
    assert processes_on(tmp_path) == []


def test_a_terminal_shows_a_bar_and_the_running_service_is_used(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with (
        os.fdopen(ours, "rb", buffering=0) as terminal,
        ServiceProcess(tmp_path / "data", {"device": "fake:0.05"}) as service,
        subprocess.Popen(
            [
                *(sys.executable, "-m", "sfumato", "generate", "a castle"),
                *("--steps=20", f"--data={tmp_path / 'data'}"),
            ],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=theirs,
            env={**os.environ, "PYTHONPATH": str(Path.cwd()), "TERM": "xterm", "COLUMNS": "100"},
        ) as command,
    ):
        os.close(theirs)
        shown = b""
        try:
            while piece := terminal.read(65536):
                shown += piece
        except OSError:
            pass  # how Linux says that the other end of a terminal was closed
        assert command.wait(PATIENCE) == 0
        assert service.process.poll() is None
        assert len(service.http.get("/v1/jobs").json()["jobs"]) == 1
    assert re.search(rb"\b\d+/20\b", shown)
    assert b"denoising" in shown


def test_a_service_elsewhere_is_found_through_the_users_own_file(tmp_path: Path) -> None:
    """With its key, which nothing prints."""
    data = tmp_path / "elsewhere"
    made = subprocess.run(
        [sys.executable, "-m", "sfumato", "keys", "create", "--name=me", f"--data={data}"],
        capture_output=True,
        text=True,
        check=True,
    )
    key = made.stdout.strip()
    folder = Path(os.environ["XDG_CONFIG_HOME"]) / "sfumato"
    folder.mkdir()
    config = folder / "config.toml"
    with ServiceProcess(data, {"require_key": "true"}) as service:
        config.write_text(f'server = "{service.url}"\nkey = "{key}"\n')
        status, _, err = generate(tmp_path, "--seed=7")
        assert status == 1
        assert f"chmod 600 {config}" in err
        config.chmod(0o600)
        status, out, err = generate(tmp_path, "--seed=7")
        assert (status, out.splitlines()[0]) == (0, "a-castle-7.png  seed 7"), err
        config.write_text(f'server = "{service.url}"\n')
        status, _, err = generate(tmp_path, "--seed=8")
        assert status == 1
        assert err.splitlines()[-1].endswith("(unauthorized)")
        (job,) = service.http.get("/v1/jobs", headers={"x-api-key": key}).json()["jobs"]
        assert job["seed"] == 7
    assert key not in out + err + "\n".join(service.log)
    assert not (tmp_path / "data").exists(), "no service of its own was started"
