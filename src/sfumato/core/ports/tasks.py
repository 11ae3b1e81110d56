"""Requests that arrive as messages of another system's making, and where their results go.

The seed systems' own queues: RabbitMQ's ``tasks``, SNS and SQS. ``services.intake`` makes each
message one job and answers in that system's own terms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sfumato.core.job import Job, JobError
from sfumato.core.ports.image_store import StoredObject
from sfumato.core.request import GenerationRequest


@dataclass(frozen=True, slots=True)
class Task:
    """A message that asks for pictures.

    Attributes:
        id: the same at every delivery of the message; the keys of its results derive from it.
        inputs: the files of the request's pictures, by their SHA-256.
        reply: what the sink needs beside the job, in its own terms.
        headers: what came with the message and may tell which trace it is part of; names in lower
            case.
    """

    id: str
    request: GenerationRequest
    inputs: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    reply: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


class TaskDelivery(Protocol):
    """A received task, hidden from other receivers until its visibility ends."""

    @property
    def task(self) -> Task: ...

    async def ack(self) -> None:
        """Done with it, after its results are stored. Twice is harmless."""
        ...

    async def extend(self, seconds: float) -> bool:
        """Keep it hidden for ``seconds`` from now; False when it is no longer ours."""
        ...

    async def release(self, *, delay: float = 0.0) -> None:
        """Give it to whoever asks after ``delay`` seconds."""
        ...


class TaskSource(Protocol):
    """Where tasks come from, at least once. A message that is no task is set aside by the source,
    with its reason in the log and wherever the other system looks for one."""

    async def receive(self, *, visibility: float, timeout: float) -> TaskDelivery | None:
        """The next task; None after ``timeout`` seconds without one. 0 looks once."""
        ...

    async def close(self) -> None: ...


class TaskSink(Protocol):
    """Where results go. Called again for the same task it writes the same objects."""

    async def started(self, task: Task) -> None:
        """A worker draws it. News, not a result: where it is lost, nothing else is."""
        ...

    async def succeeded(self, task: Task, job: Job, images: Sequence[StoredObject]) -> None: ...

    async def failed(self, task: Task, error: JobError) -> None: ...

    async def close(self) -> None: ...
