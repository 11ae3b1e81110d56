"""The Dockerfile, without Docker: linted, parsed, and its own scripts run."""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import dockerfile
import pytest
import yaml

from sfumato import __version__
from tests.support.chart import CHART

ROOT = Path(__file__).parents[3]
COMMANDS = dockerfile.parse_file(str(ROOT / "Dockerfile"))
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
#: Those that no image has.
ELSEWHERE = {"bench", "test", "training"}
TARGETS = ("api", "worker")


def stage(name: str) -> list[dockerfile.Command]:
    """The instructions of one stage, its FROM first."""
    begins = [index for index, each in enumerate(COMMANDS) if each.cmd == "FROM"]
    for begin, end in zip(begins, [*begins[1:], None], strict=True):
        if COMMANDS[begin].value[-1] == name:
            return list(COMMANDS[begin:end])
    raise AssertionError(name)


def argument(name: str) -> str:
    """The default of a build argument."""
    (found,) = {
        each.value[0].partition("=")[2].strip('"')
        for each in COMMANDS
        if each.cmd == "ARG" and each.value[0].startswith(f"{name}=")
    }
    return found


def environment(name: str) -> dict[str, str]:
    """What a target's processes are told, its base's included."""
    told = {}
    for each in [*stage("base"), *stage(name)]:
        if each.cmd == "ENV":
            told.update(zip(each.value[::2], each.value[1::2], strict=True))
    return told


def required(*extras: str) -> list[str]:
    """What an image with those extras would install."""
    script = ROOT / "deploy" / "images" / "requirements.py"
    done = subprocess.run(
        [sys.executable, script, *extras], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [re.split(r"[\[<>=!~ ]", line)[0] for line in done.stdout.splitlines()]


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    done = subprocess.run(
        [hadolint, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert done.stdout == ""
    assert done.returncode == 0


def test_everything_copied_exists_and_reaches_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored, "what is not named stays here"
    admitted = [line[1:] for line in ignored if line.startswith("!")]
    copied = [
        source
        for each in COMMANDS
        if each.cmd == "COPY" and not any(flag.startswith("--from") for flag in each.flags)
        for source in each.value[:-1]
    ]
    copied += re.findall(r"type=bind,source=([^,]+)", (ROOT / "Dockerfile").read_text())
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        parents = [source, *map(str, Path(source).parents)]
        assert any(fnmatch.fnmatch(each, name) for each in parents for name in admitted), source


def test_the_base_comes_by_argument_so_that_a_digest_can_pin_it() -> None:
    stages = {each.value[-1] for each in COMMANDS if each.cmd == "FROM"}
    outside = {each.value[0] for each in COMMANDS if each.cmd == "FROM"} - stages
    assert outside == {"${PYTHON_IMAGE}"}
    assert re.fullmatch(r"docker\.io/library/python:3\.\d+-slim-\w+", argument("PYTHON_IMAGE"))


def test_the_api_has_every_extra_but_the_engine() -> None:
    assert set(argument("API_EXTRAS").split()) == set(EXTRAS) - ELSEWHERE - {"engine"}


def test_the_worker_has_the_engine_and_what_else_a_worker_uses() -> None:
    extras = set(argument("WORKER_EXTRAS").split())
    assert extras >= {"engine", "amqp", "aws", "postgres"}
    assert extras <= set(EXTRAS) - ELSEWHERE


def test_no_torch_in_the_api_and_torch_in_the_worker() -> None:
    heavy = {"torch", "diffusers", "transformers", "numpy", "pillow"}
    assert heavy.isdisjoint(required(*argument("API_EXTRAS").split()))
    assert heavy <= set(required(*argument("WORKER_EXTRAS").split()))


def test_an_extra_that_is_not_there_ends_the_build_and_names_those_that_are() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        required("postgres", "postgresql")
    assert "no extra 'postgresql'" in caught.value.stderr
    assert "postgres," in caught.value.stderr


def test_versions_are_those_that_the_tests_ran_with() -> None:
    told = dict(
        each.partition("=")[::2]
        for command in stage("build")
        if command.cmd == "ENV"
        for each in shlex.split(command.original)[1:]
    )
    assert told["PIP_CONSTRAINT"] == "/build/constraints.txt"
    assert told["PIP_ONLY_BINARY"] == ":all:"


@pytest.mark.parametrize("target", TARGETS)
def test_it_runs_as_nobody_in_particular_and_tells_of_its_health(target: str) -> None:
    instructions = {each.cmd: each for each in stage(target)}
    assert instructions["USER"].value == ("65532:65532",)
    assert instructions["ENTRYPOINT"].value == ("sfumato",)
    assert instructions["ENTRYPOINT"].json, "a shell would keep SIGTERM to itself"
    assert instructions["CMD"].json
    probe = instructions["HEALTHCHECK"]
    assert {flag.partition("=")[0] for flag in probe.flags} == {
        "--interval",
        "--timeout",
        "--start-period",
        "--retries",
    }
    path = "/healthz" if target == "api" else "/livez"
    assert path in probe.original


@pytest.mark.parametrize("target", TARGETS)
def test_it_says_what_it_is(target: str) -> None:
    (label,) = [each for each in stage(target) if each.cmd == "LABEL"]
    names = {name.removeprefix("org.opencontainers.image.") for name in label.value[::2]}
    assert names == {
        "title",
        "description",
        "source",
        "documentation",
        "licenses",
        "version",
        "revision",
    }


@pytest.mark.parametrize("target", TARGETS)
def test_its_root_may_be_read_only(target: str) -> None:
    told = environment(target)
    assert told["HOME"] == "/tmp"  # noqa: S108
    assert told["SFUMATO_DATA"] == "/var/lib/sfumato"
    assert told["PYTHONDONTWRITEBYTECODE"] == "1"
    # containerd would make them writable folders of the node, whatever the pod says.
    assert "VOLUME" not in {each.cmd for each in stage(target)}


@pytest.mark.parametrize("target", TARGETS)
def test_no_gpu_is_given_to_pods_that_asked_for_none(target: str) -> None:
    assert "NVIDIA_VISIBLE_DEVICES" not in environment(target)


def test_the_chart_installs_the_images_of_this_version() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__


def test_no_secret_is_an_argument_or_a_variable() -> None:
    named = [each.original for each in COMMANDS if each.cmd in ("ARG", "ENV")]
    assert not re.search(r"TOKEN|PASSWORD|SECRET|KEY", " ".join(named), re.IGNORECASE)


def test_byte_code_is_the_same_whenever_it_was_made(tmp_path: Path) -> None:
    made = []
    for index, time in enumerate((0, 2_000_000_000)):
        packages = tmp_path / str(index) / "lib" / "python3.11" / "site-packages"
        package = packages / "sfumato"
        package.mkdir(parents=True)
        (package / "one.py").write_text("ANSWER = 42\n")
        (package / "template.py").write_text("{% this is no Python %}\n")
        (packages / "other.py").write_text("")
        os.utime(package / "one.py", (time, time))
        script = ROOT / "deploy" / "images" / "compile.py"
        subprocess.run([sys.executable, script, packages.parents[2], "sfumato"], check=True)
        (code,) = packages.rglob("*.pyc")
        made.append(code.read_bytes().replace(str(packages).encode(), b""))
    # The flags word: by hash, and never compared with the source.
    assert made[0][4:8] == b"\x01\x00\x00\x00"
    assert made[0] == made[1]
