"""Whether an object is one that Kubernetes would take whole: nothing misspelt, nothing misplaced."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
from kubernetes_validate import utils

#: The oldest that the chart allows, and the newest that there are schemas of.
VERSIONS = ("1.31", "1.37")

_CUSTOM = Path(__file__).parent / "crds"

# It reads megabytes of definitions for each object that it is asked about.
utils.schema_contents = functools.cache(utils.schema_contents)


def check(manifest: dict[str, Any]) -> None:
    """Raises ``jsonschema.ValidationError``, or ``AssertionError`` for a kind without a schema."""
    group, _, version = manifest["apiVersion"].rpartition("/")
    file = _CUSTOM / f"{group}_{version}_{manifest['kind']}.json"
    if not file.exists():
        assert "." not in group or group.endswith(".k8s.io"), f"no schema of {group}"
        for kubernetes in VERSIONS:
            kubernetes_validate.validate(manifest, kubernetes, strict=True)
        return
    _validator(file).validate(manifest)
    for kubernetes in VERSIONS:
        # A custom resource's metadata is what everybody's is.
        built_in = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": manifest["metadata"]}
        kubernetes_validate.validate(built_in, kubernetes, strict=True)


@functools.cache
def _validator(file: Path) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(file.read_text()))
