"""The values that the pages on Kubernetes show: each example makes a chart that Kubernetes takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.support.chart import CHART, render
from tests.support.kubernetes_schemas import check

DOCS = CHART.parents[2] / "docs" / "howto"
PAGES = ("kubernetes-gpus.md", "kubernetes-models.md")


def examples() -> list[object]:
    return [
        pytest.param(text, id=f"{page}-{number}")
        for page in PAGES
        for number, text in enumerate(
            re.findall(r"```yaml\n(.*?)```", (DOCS / page).read_text(), re.DOTALL), start=1
        )
    ]


@pytest.mark.parametrize("text", examples())
def test_an_example_makes_what_kubernetes_takes(text: str) -> None:
    for manifest in render(yaml.safe_load(text)):
        check(manifest)


def test_the_page_lists_every_class() -> None:
    classes = yaml.safe_load((CHART / "files" / "gpu-classes.yaml").read_text())
    listed = (DOCS / PAGES[0]).read_text().partition("gpu-classes.yaml`: ")[2].partition(".\n")[0]
    assert re.split(r",\s+", listed.partition(". Others")[0]) == list(classes)


@pytest.mark.parametrize("page", PAGES)
def test_what_it_names_is_there(page: str) -> None:
    """Values in prose, as ``gpu.karpenter.create``, are values of the chart."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    text = re.sub(r"```.*?```", "", (DOCS / page).read_text(), flags=re.DOTALL)
    named = re.findall(r"`((?:gpu|models|images|storage|workers)\.[A-Za-z.]+)`", text)
    assert named
    for name in named:
        found = values | {"gpu": values["gpu"] | values["workers"]["gpu"]}
        for part in name.split("."):
            assert part in found, name
            found = found[part]


def test_folders_of_the_repository_that_pages_name_exist() -> None:
    root = Path(CHART).parents[2]
    for page in PAGES:
        for name in re.findall(r"`(deploy/[\w./-]+)`", (DOCS / page).read_text()):
            assert (root / name).exists(), name
