"""Values: each has a default, a place in the reference and in the schema, and no other is taken."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python
import jsonschema
import pytest
import yaml

from tests.support.chart import CHART, LEAST, merge, render

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
ROOT = Path(__file__).parents[3]
REFERENCE = (ROOT / "docs" / "reference" / "helm-values.md").read_text()
OVERLAYS = sorted((ROOT / "deploy" / "overlays").glob("*/values.yaml"))


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema that a reference names, with what stands beside the reference."""
    while "$ref" in schema:
        others = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {**SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[1]], **others}
    return schema


def closed(schema: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every object whose members the schema names."""
    schema = resolved(schema)
    if "properties" in schema:
        yield path
        for name, below in schema["properties"].items():
            yield from closed(below, (*path, name))
    if isinstance(schema.get("items"), dict):
        yield from closed(schema["items"], (*path, "[]"))


def leaves(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(values, dict) and values:
        for name, below in values.items():
            yield from leaves(below, (*path, name))
    else:
        yield path


def at(path: tuple[str, ...], value: Any) -> Any:
    for name in reversed(path):
        value = [value] if name == "[]" else {name: value}
    return value


@pytest.mark.parametrize("path", sorted(set(closed(SCHEMA))), ids=".".join)
def test_a_typo_is_refused_at_every_level(path: tuple[str, ...]) -> None:
    mistaken = merge(DEFAULTS, at((*path, "replcas"), 1))
    errors = jsonschema.Draft202012Validator(SCHEMA).iter_errors(mistaken)
    assert any("replcas" in error.message for error in errors)


def test_helm_refuses_it_too_and_names_it() -> None:
    with pytest.raises(helm_python.HelmValuesError, match="replcas"):
        render({"api": {"replcas": 3}})


@pytest.mark.parametrize(
    "values",
    [
        {"api": {"replicas": 0}},
        {"api": {"resources": {"limits": {"memory": "1 GB"}}}},
        {"images": {"api": {"digest": "sha256:abc"}}},
        {"telemetry": {"traces": "jaeger"}},
        {"telemetry": {"otlpEndpoint": "collector:4318"}},
        {"storage": {"s3Endpoint": "minio:9000"}},
        {"api": {"env": {"SFUMATO_RETENTION_DAYS": 30}}},
        {"api": {"env": {"sfumato-retention": "30"}}},
        {"database": {"existingSecret": "sfumato-database"}},
        {"fullnameOverride": "Pictures"},
        {"networkPolicy": {"callers": [{"podSelectors": {}}]}},
    ],
    ids=json.dumps,
)
def test_a_value_that_kubernetes_or_the_service_would_refuse_is_refused_here(
    values: dict[str, Any],
) -> None:
    with pytest.raises(helm_python.HelmValuesError):
        render(values)


def test_every_value_of_the_schema_has_a_default() -> None:
    given = {path[: depth + 1] for path in leaves(DEFAULTS) for depth in range(len(path))}
    missing = {path for path in known_values() if path not in given}
    # Helm itself gives it to charts within charts.
    assert missing == {("global",)}


def known_values() -> Iterator[tuple[str, ...]]:
    """The path of every value that the schema names, but those of lists' items."""
    for path in closed(SCHEMA):
        if "[]" not in path:
            members = resolved(SCHEMA)
            for name in path:
                members = resolved(members["properties"][name])
            yield from ((*path, name) for name in members["properties"])


def test_the_reference_names_every_value() -> None:
    rows = [line for line in REFERENCE.splitlines() if line.startswith("| `")]
    missing = [path for path in leaves(DEFAULTS) if not any(named(path, row) for row in rows)]
    assert not missing


def named(path: tuple[str, ...], row: str) -> bool:
    """Whether a row of a table is a value's own, or an object's that tells of it."""
    subject, _, rest = row.removeprefix("| ").partition(" | ")
    subjects = set(re.findall(r"`([^`]+)`", subject))
    if ".".join(path) in subjects:
        return True
    above = {".".join(path[:depth]) for depth in range(1, len(path))}
    if path[-2:-1] and path[-2] in SHAPES and above & subjects:
        return set(SHAPES[path[-2]]) >= {path[-1]}
    return ".".join(path[:-1]) in subjects and bool(re.search(rf"`{path[-1]}\b", rest))


#: Objects that are the same wherever they stand; the reference tells of them once.
SHAPES = {
    "image": ("repository", "tag", "digest", "pullPolicy"),
    "api": ("repository", "tag", "digest", "pullPolicy"),
    "worker": ("repository", "tag", "digest", "pullPolicy"),
    "storage": ("size", "className"),
    "resources": ("requests", "limits"),
    "requests": ("cpu", "memory", "ephemeral-storage"),
    "limits": ("cpu", "memory", "ephemeral-storage"),
    "labels": ("grafana_dashboard",),
    "existingSecret": ("name", "key"),
}


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.parent.name)
def test_an_overlays_values_are_values_of_the_chart(overlay: Path) -> None:
    values = yaml.safe_load(overlay.read_text()) or {}
    helm_python.Chart.load(CHART).validate_schema(merge(LEAST, values))
