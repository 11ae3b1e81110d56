"""An assignment as plain data, for a worker elsewhere.

What goes over the wire is what a worker draws from, and no more: not the caller's own metadata, no
path of the service's disk, no place of a bucket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from sfumato.core.current import read_traceparent
from sfumato.core.job import ImageRecord, Job, JobStatus, Settings
from sfumato.core.models import ModelDefaults, ModelFile, ModelInfo, ModelKind, ModelLayout
from sfumato.core.request import GenerationRequest

_JOB = ("id", "runtime", "created_at", "rung_at", "started_at", "attempt", "failures", "losses")
_MODEL = ("name", "family", "size_bytes", "title", "license", "memory_bytes")


def job_to_data(job: Job) -> dict[str, Any]:
    """A running job as its worker needs it."""
    return {
        **{name: getattr(job, name) for name in _JOB},
        "traceparent": job.traceparent,
        "request": {**job.request.as_dict(), "metadata": {}},
        "settings": asdict(job.settings),
        "notes": list(job.notes),
    }


def job_from_data(data: Mapping[str, Any]) -> Job:
    """Raises ``ValueError``, ``TypeError``, ``KeyError`` or ``InvalidRequest`` for other data."""
    return Job(
        **{name: data[name] for name in _JOB},
        request=GenerationRequest.from_dict(data["request"]),
        settings=Settings.from_dict(data["settings"]),
        status=JobStatus.RUNNING,
        notes=tuple(data["notes"]),
        # Read as leniently as whatever only tells of the work: a service of before has none.
        traceparent=read_traceparent(data.get("traceparent")),
    )


def model_to_data(model: ModelInfo) -> dict[str, Any]:
    return {
        **{name: getattr(model, name) for name in _MODEL},
        "kind": model.kind.value,
        "layout": model.layout.value,
        "defaults": asdict(model.defaults),
        "sizes": [list(size) for size in model.sizes],
        "files": [asdict(file) for file in model.files],
    }


def model_from_data(data: Mapping[str, Any]) -> ModelInfo:
    """Raises as :func:`job_from_data`. The model has no path yet."""
    return ModelInfo(
        **{name: data[name] for name in _MODEL},
        kind=ModelKind(data["kind"]),
        layout=ModelLayout(data["layout"]),
        path="",
        defaults=ModelDefaults(**data["defaults"]),
        sizes=tuple((int(width), int(height)) for width, height in data["sizes"]),
        files=tuple(ModelFile(**file) for file in data["files"]),
    )


def image_to_data(image: ImageRecord) -> dict[str, Any]:
    """Without the key, which the service knows."""
    return {item.name: getattr(image, item.name) for item in fields(image) if item.name != "key"}
