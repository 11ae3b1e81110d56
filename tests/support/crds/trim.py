"""Makes the schemas beside this file out of upstream's custom resource definitions:

    python -m tests.support.crds.trim FOLDER-OF-CRDS

Kept is what a validator needs to tell a misspelt or misplaced field; what is not declared is
refused. Gone are descriptions, defaults, ``status``, and repetition.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

#: The kinds that our manifests use, each in the version that they use.
KINDS = {
    ("gateway.networking.k8s.io", "v1", "HTTPRoute"),
    ("karpenter.k8s.aws", "v1", "EC2NodeClass"),
    ("karpenter.sh", "v1", "NodePool"),
    ("karpenter.sh", "v1alpha1", "NodeOverlay"),
    ("keda.sh", "v1alpha1", "ScaledJob"),
    ("keda.sh", "v1alpha1", "ScaledObject"),
    ("keda.sh", "v1alpha1", "TriggerAuthentication"),
    ("serving.knative.dev", "v1", "Service"),
    ("serving.kserve.io", "v1beta1", "InferenceService"),
}
#: Characters from which on a schema that occurs twice is written once.
_WORTH_SHARING = 150

_Schema = dict[str, Any]


def strict(schema: _Schema) -> _Schema:
    """An OpenAPI v3 schema as JSON Schema in which undeclared members are errors."""
    kept = {
        key: value
        for key, value in schema.items()
        if key not in {"description", "default", "format", "nullable"}
        and not key.startswith("x-kubernetes-")
    }
    if schema.get("x-kubernetes-int-or-string"):
        for key in ("anyOf", "allOf"):
            kept.pop(key, None)
        kept["type"] = ["integer", "string"]
    if schema.get("nullable") and isinstance(kept.get("type"), str):
        kept["type"] = [kept["type"], "null"]
    free = schema.get("x-kubernetes-preserve-unknown-fields")
    if "properties" in kept and not free:
        kept.setdefault("additionalProperties", False)
    return _mapped(kept, strict)


def shared(root: _Schema) -> _Schema:
    """The same schema; what occurs in it more than once stands in ``$defs``."""
    counts = Counter(_text(each) for each in _all_within(root))
    names = {
        text: f"s{number}"
        for number, (text, count) in enumerate(counts.items())
        if count > 1 and len(text) > _WORTH_SHARING
    }

    def by_name(schema: _Schema) -> _Schema:
        name = names.get(_text(schema))
        return _mapped(schema, by_name) if name is None else {"$ref": f"#/$defs/{name}"}

    definitions = {name: _mapped(json.loads(text), by_name) for text, name in names.items()}
    result = _mapped(root, by_name)
    used: set[str] = set()
    ahead = [result]
    while ahead:
        for each in _all_within(ahead.pop()):
            name = each.get("$ref", "").removeprefix("#/$defs/")
            if name and name not in used:
                used.add(name)
                ahead.append({"items": definitions[name]})
    return {**result, "$defs": {name: definitions[name] for name in sorted(used)}}


def _mapped(schema: _Schema, change: Callable[[_Schema], _Schema]) -> _Schema:
    """The schema with each schema directly within it changed."""
    changed = dict(schema)
    for key, value in schema.items():
        if key == "properties":
            changed[key] = {name: change(each) for name, each in value.items()}
        elif key in {"items", "additionalProperties", "not"} and isinstance(value, dict):
            changed[key] = change(value)
        elif key in {"allOf", "anyOf", "oneOf"}:
            changed[key] = [change(each) for each in value]
    return changed


def _all_within(schema: _Schema) -> Iterator[_Schema]:
    directly: list[_Schema] = []

    def note(each: _Schema) -> _Schema:
        directly.append(each)
        return each

    _mapped(schema, note)
    for each in directly:
        yield each
        yield from _all_within(each)


def _text(schema: _Schema) -> str:
    return json.dumps(schema, separators=(",", ":"), sort_keys=True)


def main(folder: Path) -> None:
    for file in sorted(folder.glob("*.yaml")):
        spec = yaml.safe_load(file.read_text())["spec"]
        for version in spec["versions"]:
            group, kind, name = spec["group"], spec["names"]["kind"], version["name"]
            if (group, name, kind) not in KINDS:
                continue
            schema = version["schema"]["openAPIV3Schema"]
            schema["properties"].pop("status", None)
            # Held against Kubernetes' own schema, like that of the built-in kinds.
            schema["properties"]["metadata"] = {"type": "object"}
            target = Path(__file__).with_name(f"{group}_{name}_{kind}.json")
            target.write_text(_text(shared(strict(schema))) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
