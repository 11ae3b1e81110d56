"""What happened to a job, numbered from 1 without gaps.

============ =======================================================================
kind         data
============ =======================================================================
queued       ``reason`` when it is queued again after a lost or released attempt
started      ``attempt``, ``worker``
loading      ``model``: the worker is bringing the model into memory; while it copies
             it to its disk first, ``bytes_done`` and ``bytes_total``
step         ``step``, ``steps`` summed over the job's images; at times ``preview``,
             a data URL of a small picture, and ``image``, which one it shows
image        ``index``: a picture is ready
canceling    the caller asked; the worker stops at its next step
succeeded    ``images``: how many; as at every end, ``gpu_seconds`` where a device was busy with
             the job, and ``cost`` and ``currency`` where that has a price
failed       ``code``, ``message``
canceled
============ =======================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class EventKind(StrEnum):
    QUEUED = "queued"
    STARTED = "started"
    LOADING = "loading"
    STEP = "step"
    IMAGE = "image"
    CANCELING = "canceling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def terminal(self) -> bool:
        return self in (EventKind.SUCCEEDED, EventKind.FAILED, EventKind.CANCELED)

    @property
    def progress(self) -> bool:
        """It tells how far a running attempt is, and changes nothing in the job itself."""
        return self in (EventKind.LOADING, EventKind.STEP, EventKind.IMAGE)


@dataclass(frozen=True, slots=True)
class NewEvent:
    """Something that happened, before the store numbers it. ``at``: seconds since the epoch."""

    kind: EventKind
    at: float
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """A numbered event of one job. A watcher that saw ``number`` asks for what came after."""

    job_id: str
    number: int
    kind: EventKind
    at: float
    data: Mapping[str, Any] = field(default_factory=dict)
