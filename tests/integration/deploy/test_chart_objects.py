"""Every object of the chart, for many sets of values: taken whole by Kubernetes, and restricted."""

from __future__ import annotations

from typing import Any

import helm_python
import pytest

from tests.support.chart import CHART, LEAST, merge, render
from tests.support.chart_values import SETS
from tests.support.kubernetes_schemas import check


@pytest.fixture(params=SETS.values(), ids=SETS.keys())
def values(request: pytest.FixtureRequest) -> dict[str, Any]:
    return request.param


def test_each_object_is_taken_whole(values: dict[str, Any]) -> None:
    for manifest in render(values):
        check(manifest)


def test_helm_finds_nothing_to_complain_of(values: dict[str, Any]) -> None:
    report = helm_python.lint(CHART, merge(LEAST, values), strict=True, kube_version="v1.31.0")
    assert [each for each in report["messages"] if each["severity"] > 1] == []
    assert not report["errors"]
