"""``sfumato batch`` as a person runs it, stops it, and runs it again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.png import png
from tests.support.service import PATIENCE, ServiceProcess


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    with ServiceProcess(tmp_path / "data") as running:
        yield running


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[ServiceProcess]:
    """One job at a time, so that some lines are done while others wait."""
    with ServiceProcess(tmp_path / "data", {"device": "fake:0.02", "max_jobs": 1}) as running:
        yield running


class Batch:
    """A batch file and the folder that it is drawn into."""

    def __init__(self, folder: Path, lines: Sequence[Mapping[str, Any] | str]) -> None:
        self.folder, self.out = folder, folder / "out"
        self.file = folder / "prompts.jsonl"
        self.file.write_text(
            "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
        )

    def start(self, *arguments: str, stdin: bool = False) -> subprocess.Popen[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SFUMATO_")}
        file = "-" if stdin else str(self.file)
        return subprocess.Popen(
            [*(sys.executable, "-m", "sfumato", "batch", file, "--out", "out"), *arguments],
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={
                **environment,
                "SFUMATO_DEVICE": "fake",
                "SFUMATO_GRACE": "0.2",
                "SFUMATO_DATA": str(self.folder / "data"),
                "PYTHONPATH": str(Path.cwd()),
            },
        )

    def run(self, *arguments: str, stdin: bool = False) -> tuple[int, str, str]:
        with self.start(*arguments, stdin=stdin) as process:
            given = self.file.read_text() if stdin else None
            out, err = process.communicate(given, timeout=PATIENCE)
        return process.returncode, out, err

    def records(self) -> list[dict[str, Any]]:
        _, *lines = (self.out / "results.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.out.glob("*.png")}


def castles(count: int) -> list[dict[str, Any]]:
    return [{"prompt": "a castle", "seed": seed, "num_inference_steps": 2} for seed in range(count)]


def jobs(service: ServiceProcess) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = service.http.get("/v1/jobs?limit=200").json()["jobs"]
    return listed


def test_every_line_becomes_files_and_a_second_run_draws_nothing(
    tmp_path: Path, service: ServiceProcess
) -> None:
    batch = Batch(tmp_path, [*castles(2), "", {"prompt": "a sea", "seed": 7, "num_images": 2}])
    status, out, err = batch.run()
    assert status == 0, err
    assert sorted(batch.files()) == [
        *("0001-a-castle-0.png", "0002-a-castle-1.png", "0004-a-sea-7.png", "0004-a-sea-8.png")
    ]
    assert set(out.splitlines()) >= {
        "out/0002-a-castle-1.png  seed 1",
        "out/0004-a-sea-8.png  seed 8",
    }
    assert out.splitlines()[-1] == "3 drawn, 0 done before, 0 failed: out/results.jsonl"
    before = batch.files()
    batch.file.write_text(batch.file.read_text() + '{"prompt": "a dragon", "seed": 1}\n')
    status, out, _ = batch.run()
    assert (status, out.splitlines()[-1]) == (
        0,
        "1 drawn, 3 done before, 0 failed: out/results.jsonl",
    )
    assert batch.files().items() >= before.items()
    assert len(jobs(service)) == 4


def test_bad_lines_are_named_and_the_others_drawn(tmp_path: Path, service: ServiceProcess) -> None:
    lines = [
        {"prompt": "a castle", "seed": 1},
        "{no json",
        '{"seed": 1}',
        {"prompt": "a castle", "widht": 64},
        {"prompt": "a castle", "width": 63},
        {"prompt": "a castle", "self": 1},
        {"prompt": "a castle", "init_image": "gone.png"},
        '{"prompt": "a castle", "guidance_scale": NaN}',
        {"prompt": "a sea", "seed": 2},
    ]
    batch = Batch(tmp_path, lines)
    status, out, err = batch.run("--json")
    assert status == 1
    assert json.loads(out) == {
        "drawn": 2,
        "done_before": 0,
        "failed": 7,
        "results": "out/results.jsonl",
    }
    told = {error["line"]: error for error in map(json.loads, err.splitlines())}
    assert sorted(told) == [2, 3, 4, 5, 6, 7, 8]
    assert told[3]["field"] == "prompt"
    assert told[5]["field"] == "width"
    assert told[7]["code"] == "os_error"
    assert sorted(batch.files()) == ["0001-a-castle-1.png", "0009-a-sea-2.png"]
    status, _, err = batch.run()
    assert status == 1
    assert "Error: line 2: It is no JSON." in err
    assert len(jobs(service)) == 2


def test_equal_lines_are_different_pictures_and_standard_input_will_do(
    tmp_path: Path, service: ServiceProcess
) -> None:
    (tmp_path / "in.png").write_bytes(png(64, 48))
    line = {"prompt": "a castle", "init_image": "in.png", "strength": 0.5}
    batch = Batch(tmp_path, [line, line])
    assert batch.run(stdin=True)[0] == 0
    first, second = batch.files().values()
    assert first != second
    assert batch.run(stdin=True)[1].startswith("0 drawn, 2 done before, 0 failed")
    assert len(jobs(service)) == 2


def test_killed_in_the_middle_it_goes_on_and_draws_nothing_twice(
    tmp_path: Path, slow: ServiceProcess
) -> None:
    batch = Batch(tmp_path, [{**line, "num_inference_steps": 10} for line in castles(12)])
    with batch.start("--concurrency=4") as process:
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline()
        process.kill()
    done = len(batch.records())
    assert 3 <= done < 12
    before = batch.files()
    # As if it had been killed while it wrote.
    with (batch.out / "results.jsonl").open("a") as ledger:
        ledger.write('{"id": "torn')
    status, out, err = batch.run("--concurrency=4")
    assert status == 0, err
    assert out.splitlines()[-1].startswith(f"{12 - done} drawn, {done} done before, 0 failed")
    assert batch.files().items() >= before.items()
    assert [job["status"] for job in jobs(slow)] == ["succeeded"] * 12, "each was drawn once"
    assert set(batch.files()) == {f"{n + 1:04}-a-castle-{n}.png" for n in range(12)}


def test_ctrl_c_cancels_what_is_under_way_and_the_next_run_draws_it(
    tmp_path: Path, slow: ServiceProcess
) -> None:
    batch = Batch(tmp_path, [{**line, "num_inference_steps": 20} for line in castles(5)])
    with batch.start("--concurrency=3") as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Traceback" not in err
    ended = [slow.finished(job["id"])["status"] for job in jobs(slow)]
    assert set(ended) == {"succeeded", "canceled"}
    assert batch.run()[0] == 0
    assert len(batch.files()) == 5


def test_a_key_is_shown_and_a_wrong_one_ends_the_run(tmp_path: Path) -> None:
    data = tmp_path / "data"
    made = subprocess.run(
        [sys.executable, "-m", "sfumato", "keys", "create", "--name=me", f"--data={data}"],
        capture_output=True,
        text=True,
        check=True,
    )
    key = made.stdout.strip()
    batch = Batch(tmp_path, castles(2))
    with ServiceProcess(data, {"require_key": "true"}) as service:
        status, _, err = batch.run(f"--server={service.url}", "--key=sfk_wrong", "--json")
        assert (status, json.loads(err)["code"]) == (1, "unauthorized")
        assert "sfk_wrong" not in err
        assert batch.files() == {}
        assert batch.run(f"--server={service.url}", f"--key={key}")[0] == 0
    assert len(batch.files()) == 2


def test_without_a_service_it_starts_one_of_its_own(tmp_path: Path) -> None:
    batch = Batch(tmp_path, castles(3))
    status, out, err = batch.run()
    assert status == 0, err
    assert out.splitlines()[-1].startswith("3 drawn")


def test_a_folder_with_somebody_elses_results_is_left_alone(tmp_path: Path) -> None:
    batch = Batch(tmp_path, castles(1))
    batch.out.mkdir()
    (batch.out / "results.jsonl").write_text('{"mine": 1}\n')
    status, _, err = batch.run()
    assert status == 1
    assert "not what a batch wrote" in err
    assert (batch.out / "results.jsonl").read_text() == '{"mine": 1}\n'
