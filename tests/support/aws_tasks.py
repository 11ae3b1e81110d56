"""Tasks as the AWS samples send them."""

from __future__ import annotations

from typing import Any

V0: dict[str, Any] = {
    "sdname": "defaultAddon",
    "alwayson_scripts": {
        "task": "text-to-image",
        "sd_model_checkpoint": "pattern.safetensors",
        "id_task": "307",
    },
    "prompt": "a castle at night",
    "steps": 2,
    "seed": 7,
}
V1ALPHA1: dict[str, Any] = {
    **{name: value for name, value in V0.items() if name != "sdname"},
    "alwayson_scripts": {**V0["alwayson_scripts"], "id_task": "a1", "save_dir": "out"},
}
V1ALPHA2: dict[str, Any] = {
    "task": {
        "metadata": {
            "id": "a2",
            "runtime": "default",
            "tasktype": "text-to-image",
            "prefix": "out/deep",
            "context": {"user": [1]},
        },
        "content": {"prompt": "a castle at night", "steps": 2, "seed": 7, "n_iter": 2},
    }
}


def changed(base: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The payload with other entries, by path; ``...`` takes one away."""
    if not changes:
        return base
    copy = dict(base)
    for path, value in changes.items():
        name, _, inner = path.partition("__")
        if inner:
            copy[name] = changed(copy[name], **{inner: value})
        elif value is ...:
            del copy[name]
        else:
            copy[name] = value
    return copy


def v0(name: str, **changes: Any) -> dict[str, Any]:
    return changed(V0, alwayson_scripts__id_task=name, **changes)


def v1alpha1(name: str, **changes: Any) -> dict[str, Any]:
    return changed(V1ALPHA1, alwayson_scripts__id_task=name, **changes)


def v1alpha2(name: str, **changes: Any) -> dict[str, Any]:
    return changed(V1ALPHA2, task__metadata__id=name, **changes)
