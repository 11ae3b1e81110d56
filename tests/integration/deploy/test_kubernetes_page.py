"""Every command and every file of values in ``docs/howto/kubernetes.md``: parsed, and held against
the tools, the Makefile, the chart and our own command line."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.chart import merge, render
from tests.support.command_lines import wrong
from tests.support.kubernetes_schemas import check

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "howto" / "kubernetes.md").read_text()
#: Files that the page has its reader write.
WRITTEN = {"mine.yaml", "database-url.txt", "pip.conf"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """What stands behind a prompt, and in code within the text when a tool's name begins it."""
    prompted = [
        line[2:] for block in blocks("console") for line in block.splitlines() if line[:2] == "$ "
    ]
    text = re.sub(r"^```.*?^```$", "", PAGE, flags=re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`((?:kubectl|helm|make|sfumato) [a-z][^`]*)`", text)
    return list(dict.fromkeys([*prompted, *inline]))


def simple(command: str) -> list[list[str]]:
    """The words of each simple command of a line, those in ``$(…)`` among them."""
    inner = re.findall(r"\$\(([^()]*)\)", command)
    line = re.sub(r"\$\([^()]*\)", "it", command)
    parts = [part for each in [line, *inner] for part in re.split(r" \| | && ", each)]
    words = [shlex.split(part.removesuffix(" &")) for part in parts]
    return [list(_without_assignments(each)) for each in words]


def _without_assignments(words: list[str]) -> list[str]:
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    return words


def test_the_page_has_commands_of_every_kind() -> None:
    begun = {words[0] for command in commands() for words in simple(command)}
    assert begun == {"make", "export", "kubectl", "base64", "sfumato", "helm", "gcloud"}


@pytest.mark.parametrize("command", commands())
def test_a_shell_can_read_it(command: str) -> None:
    subprocess.run(["bash", "-n", "-c", command], check=True)


@pytest.mark.parametrize(
    "command", [each for each in commands() if not each.startswith(("make", "GPU"))]
)
def test_its_tools_would_take_it(command: str) -> None:
    for words in simple(command):
        if words[0] not in ("export", "base64"):
            assert wrong(words) is None


def test_make_has_each_target_and_the_scripts_each_variable() -> None:
    makefile = (ROOT / "Makefile").read_text()
    scripts = "".join(each.read_text() for each in (ROOT / "deploy" / "local").glob("*.sh"))
    made = [shlex.split(each) for each in commands() if re.match(r"(\w+=\S* )?make ", each)]
    assert len(made) > 10
    for words in made:
        for word in words:
            name, assigned, value = word.partition("=")
            if assigned:
                assert re.search(rf"\b{name}\b", scripts), word
            elif word != "make":
                assert re.search(rf"^{word}:", makefile, re.MULTILINE), word
            if name == "OVERLAY":
                assert (ROOT / "deploy" / "overlays" / value).is_dir()
            if name == "VALUES":
                assert value in WRITTEN
    for name in re.findall(r"^\| `([A-Z_]+)[=`]", PAGE, re.MULTILINE):
        assert name in scripts


def test_every_file_that_a_command_names_is_there() -> None:
    named = {
        path
        for command in commands()
        for path in re.findall(r"(?:[\w.-]+/)*[\w-]+\.(?:yaml|txt|conf)\b|deploy/[\w/.-]+", command)
    }
    assert "deploy/helm/sfumato" in named
    for path in named - WRITTEN:
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("block", blocks("yaml"))
def test_its_values_are_the_chart_s(block: str) -> None:
    values: dict[str, Any] = yaml.safe_load(block)
    below: dict[str, Any] = {}
    if "karpenter" in values.get("gpu", {}):
        overlay = ROOT / "deploy" / "overlays" / "eks" / "values.yaml"
        below = yaml.safe_load(overlay.read_text())
    for manifest in render(merge(below, values)):
        check(manifest)


def test_values_named_in_the_text_exist() -> None:
    chart = yaml.safe_load((ROOT / "deploy" / "helm" / "sfumato" / "values.yaml").read_text())
    named = re.findall(r"`((?:workers|images|api|gpu|models)(?:\.\w+)+)`", PAGE)
    assert len(named) > 5
    for path in named:
        value = chart
        for key in path.split("."):
            assert key in value, path
            value = value[key]


def test_each_reason_in_its_table_is_one_that_a_job_can_have() -> None:
    table = PAGE.partition("| it says |")[2].partition("\n\n")[0]
    reasons = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    services = ROOT / "src" / "sfumato" / "services"
    told = (services / "waiting.py").read_text() + (services / "tracking.py").read_text()
    told = re.sub(r"\{[^}]*\}", "", told)
    assert len(reasons) == 11
    for reason in reasons:
        assert re.sub(r" \d+$", "", reason) in told, reason


def test_objects_that_it_names_are_those_that_the_chart_makes() -> None:
    trial = yaml.safe_load((ROOT / "deploy" / "overlays" / "trial" / "values.yaml").read_text())
    made = set(render(trial).names())
    assert {"Secret/sfumato-credentials", "Service/sfumato-api"} <= made
    for kind, name in re.findall(r"(secret|service)[ /](sfumato-[\w-]+) ", PAGE):
        assert f"{kind.title()}/{name}" in made, name
    for label, value in re.findall(r"--selector ([\w./-]+)=([\w-]+)", PAGE):
        pods = yaml.safe_dump(render(trial).all("Deployment"))
        assert f"{label}: {value}" in pods
