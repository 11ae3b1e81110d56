"""What these APIs ask of a payload before they take it, in their own words, and its runtime.

A task from a queue has passed these checks at its front door; over HTTP we are that door.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sfumato.core.errors import UnknownRuntime
from sfumato.core.runtimes import Runtime
from sfumato.core.tasks import KINDS, NotATask, is_id

#: What CDK appended to a runtime's id to make an ``sdname`` of it.
_SUFFIX = "addon"


def check_v1alpha1(data: Mapping[str, Any]) -> None:
    """Also v0's. Raises ``NotATask``."""
    header = data.get("alwayson_scripts")
    if not isinstance(header, dict):
        raise _missing("alwayson_scripts", "alwayson_scripts")
    for name in ("task", "sd_model_checkpoint", "id_task"):
        if header.get(name) in (None, ""):
            raise _missing(name, f"alwayson_scripts.{name}")
    if not is_id(header["id_task"]):
        raise NotATask(
            "invalid id_task format",
            field="alwayson_scripts.id_task",
            accepted="letters, digits, - and _",
        )
    if header["task"] not in KINDS:
        raise NotATask("invalid task type", field="alwayson_scripts.task", accepted=KINDS)
    if not isinstance(header["sd_model_checkpoint"], str):
        raise NotATask(
            "sd_model_checkpoint is no text",
            field="alwayson_scripts.sd_model_checkpoint",
            accepted="a model's name",
        )


def check_v1alpha2(data: Mapping[str, Any]) -> None:
    """Raises ``NotATask``."""
    outer = data.get("task")
    task = outer if isinstance(outer, dict) else data
    metadata = task.get("metadata")
    if not isinstance(metadata, dict):
        raise _missing("metadata", "metadata")
    for name in ("id", "runtime", "tasktype"):
        if metadata.get(name) in (None, ""):
            raise _missing(name, f"metadata.{name}")
    if not isinstance(task.get("content"), dict):
        raise _missing("content", "content")
    if not is_id(metadata["id"]):
        raise NotATask(
            "invalid id format", field="metadata.id", accepted="letters, digits, - and _"
        )
    if metadata["tasktype"] not in KINDS:
        raise NotATask("invalid tasktype", field="metadata.tasktype", accepted=KINDS)
    if not isinstance(metadata["runtime"], str):
        raise NotATask("invalid runtime format", field="metadata.runtime", accepted="a name")


def runtime_of(name: Any, runtimes: Sequence[Runtime], *, field: str) -> Runtime:
    """The runtime that a payload names: as it is called here, or with the ``Addon`` that CDK put
    after the lower-cased id.

    Raises:
        UnknownRuntime: it names none, or one that there is not; the message lists those there are.
    """
    names = [runtime.name for runtime in runtimes]
    if not isinstance(name, str) or not name.strip():
        raise UnknownRuntime(
            f"{field} is missing: it names the runtime", field=field, accepted=names
        )
    wanted = name.strip().lower()
    for called in (wanted, wanted.removesuffix(_SUFFIX)):
        for runtime in runtimes:
            if runtime.name == called:
                return runtime
    raise UnknownRuntime(
        f"{field} names the runtime {name.strip()[:64]!r}, which there is not",
        field=field,
        accepted=names,
    )


def _missing(name: str, field: str) -> NotATask:
    return NotATask(f"{name} is missing", field=field)
