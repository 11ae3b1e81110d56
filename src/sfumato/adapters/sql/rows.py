"""Rows to dataclasses and back."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from sqlalchemy import Row

from sfumato.core.charges import Charge
from sfumato.core.events import Event, EventKind, NewEvent
from sfumato.core.job import (
    Attempt,
    AttemptOutcome,
    ImageRecord,
    Job,
    JobError,
    JobStatus,
    Settings,
    Timings,
)
from sfumato.core.ports import Ring
from sfumato.core.request import GenerationRequest, canonical_json


def job_values(job: Job, idempotency_key: str | None) -> dict[str, Any]:
    """A new job as the columns of ``jobs``."""
    return {
        "id": job.id,
        "runtime": job.runtime,
        "status": job.status.value,
        "priority": job.request.priority,
        "created_at": job.created_at,
        "rung_at": job.rung_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "attempt": job.attempt,
        "failures": job.failures,
        "losses": job.losses,
        "worker": job.worker,
        "lease_until": job.lease_until,
        "cancel_requested": job.cancel_requested,
        "checkpoint": job.checkpoint,
        "traceparent": job.traceparent,
        "idempotency_key": idempotency_key,
        "request_hash": job.request.canonical_hash(),
        "last_event": 1,
        "request": canonical_json(job.request.as_dict()),
        "settings": document(job.settings),
        "images": "[]",
        "timings": document(job.timings),
        "notes": json.dumps(job.notes),
        "owner": job.owner,
        "num_images": job.request.num_images,
    }


def job_of(row: Row[Any]) -> Job:
    error = json.loads(row.error) if row.error is not None else None
    return Job(
        id=row.id,
        request=GenerationRequest.from_dict(json.loads(row.request)),
        settings=Settings.from_dict(json.loads(row.settings)),
        runtime=row.runtime,
        status=JobStatus(row.status),
        created_at=row.created_at,
        rung_at=row.rung_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        attempt=row.attempt,
        failures=row.failures,
        losses=row.losses,
        worker=row.worker,
        lease_until=row.lease_until,
        cancel_requested=row.cancel_requested,
        images=tuple(ImageRecord(**image) for image in json.loads(row.images)),
        error=JobError(**error) if error is not None else None,
        timings=Timings(**json.loads(row.timings)),
        notes=tuple(json.loads(row.notes)),
        checkpoint=row.checkpoint,
        traceparent=row.traceparent,
        owner=row.owner,
        charge=charge_of(row),
    )


def charge_of(row: Row[Any]) -> Charge:
    """What a job took so far."""
    return Charge(row.gpu_seconds or 0.0, row.cost, row.currency)


def event_values(job_id: str, number: int, event: NewEvent) -> dict[str, Any]:
    """An event as the columns of ``events``."""
    data = dict(event.data)
    preview = data.pop("preview", None)
    return {
        "job_id": job_id,
        "number": number,
        "kind": event.kind.value,
        "at": event.at,
        "data": canonical_json(data),
        "preview": preview,
    }


def event_of(row: Row[Any]) -> Event:
    data: dict[str, Any] = json.loads(row.data)
    if row.preview is not None:
        data["preview"] = row.preview
    return Event(row.job_id, row.number, EventKind(row.kind), row.at, data)


def attempt_of(row: Row[Any]) -> Attempt:
    return Attempt(
        number=row.number,
        worker=row.worker,
        started_at=row.started_at,
        ended_at=row.ended_at,
        outcome=AttemptOutcome(row.outcome) if row.outcome is not None else None,
        reason=row.reason,
    )


def ring_of(row: Row[Any]) -> Ring:
    return Ring(row.job_id, row.runtime, row.attempt, -row.rank, row.traceparent)


def document(value: Any) -> str:
    """A dataclass of the core as canonical JSON."""
    return canonical_json(asdict(value))


def documents(values: Any) -> str:
    return canonical_json([asdict(value) for value in values])
