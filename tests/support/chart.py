"""The Helm chart as Kubernetes would get it: rendered, read, and held against every schema."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import helm_python
import yaml

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "sfumato"
RELEASE = "sfumato"
NAMESPACE = "pictures"

#: The least that an installation needs: where PostgreSQL is, and where pictures go.
LEAST: dict[str, Any] = {
    "database": {"existingSecret": {"name": "sfumato-database"}},
    "storage": {"imagesUrl": "s3://pictures"},
}

#: An object as its manifest has it.
Manifest = dict[str, Any]


class Rendered(list[Manifest]):
    """What a set of values makes."""

    def find(self, kind: str, name: str) -> Manifest:
        """The one object of that kind and name; ``name`` may leave out the release's."""
        names = {name, f"{RELEASE}-{name}"}
        found = [each for each in self.all(kind) if each["metadata"]["name"] in names]
        assert len(found) == 1, f"{len(found)} of {kind}/{name} among {self.names()}"
        return found[0]

    def all(self, *kinds: str) -> list[Manifest]:
        return [each for each in self if each["kind"] in kinds]

    def names(self) -> list[str]:
        return sorted(f"{each['kind']}/{each['metadata']['name']}" for each in self)


def render(values: Mapping[str, Any] | None = None, *, upgrade: bool = False) -> Rendered:
    """The chart's objects for :data:`LEAST` with these values on top; once in a session for each.

    Raises ``helm_python.HelmError`` where the schema or a template refuses the values.
    """
    merged = merge(LEAST, values or {})
    # Each caller gets objects of his own, to change as he likes.
    return Rendered(yaml.load_all(_render(json.dumps(merged), upgrade), Loader=yaml.CSafeLoader))


def notes(values: Mapping[str, Any] | None = None) -> str:
    """What Helm tells after an installation."""
    return _manifests(json.dumps(merge(LEAST, values or {})), upgrade=False)[
        "sfumato/templates/NOTES.txt"
    ]


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """As Helm merges files of values: maps by key, everything else as a whole."""
    merged = dict(below)
    for key, value in above.items():
        theirs = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(theirs, Mapping)
        merged[key] = merge(theirs, value) if both else value
    return merged


@functools.cache
def _chart() -> helm_python.Chart:
    return helm_python.Chart.load(CHART)


@functools.cache
def _manifests(values: str, upgrade: bool) -> dict[str, str]:
    return _chart().render(
        json.loads(values),
        name=RELEASE,
        namespace=NAMESPACE,
        is_install=not upgrade,
        is_upgrade=upgrade,
    )


@functools.cache
def _render(values: str, upgrade: bool) -> str:
    """One stream of YAML documents, none of them empty."""
    documents = (
        document.strip()
        for name, text in sorted(_manifests(values, upgrade).items())
        if name.endswith(".yaml")
        for document in f"\n{text}".split("\n---")
    )
    return "\n---\n".join(document for document in documents if _holds_something(document))


def _holds_something(document: str) -> bool:
    return any(line.strip() and not line.startswith("#") for line in document.splitlines())


def pod_spec(manifest: Manifest) -> Manifest | None:
    """The spec of the pods that an object makes; None: it makes none."""
    spec = manifest.get("spec", {})
    match manifest["kind"]:
        case "Pod":
            return spec
        case "Deployment" | "StatefulSet" | "DaemonSet" | "Job" | "Service":
            return spec.get("template", {}).get("spec")
        case "ScaledJob":
            return spec["jobTargetRef"]["template"]["spec"]
        case "InferenceService":
            return spec["predictor"]
        case "CronJob":
            return spec["jobTemplate"]["spec"]["template"]["spec"]
    return None


def containers(spec: Manifest) -> list[Manifest]:
    """Every container of a pod's spec, those that run first among them."""
    return [*spec.get("initContainers", []), *spec["containers"]]


def environment(container: Manifest) -> dict[str, Any]:
    """A container's variables: the value of each, or what it is read from."""
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


def by_name(items: Iterable[Manifest], name: str) -> Manifest:
    """The one of a manifest's list (containers, volumes, ports …) with that name."""
    (found,) = [each for each in items if each["name"] == name]
    return found
