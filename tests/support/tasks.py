"""A source and a sink of tasks in memory, which tell what was done with each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from sfumato.core.errors import SfumatoError
from sfumato.core.job import Job, JobError
from sfumato.core.ports import StoredObject, Task


@dataclass
class ListedDelivery:
    """The ``TaskDelivery`` port. ``ours``: what an extension answers."""

    source: ListedTasks
    task: Task
    ours: bool = True

    async def ack(self) -> None:
        self.source.acknowledged.append(self.task.id)
        self.source.settled.set()

    async def extend(self, seconds: float) -> bool:
        self.source.extended.set()
        return self.ours

    async def release(self, *, delay: float = 0.0) -> None:
        self.source.released.append((self.task.id, delay))
        self.source.settled.set()


@dataclass
class ListedTasks:
    """The ``TaskSource`` port: deliveries from a queue, each once."""

    acknowledged: list[str] = field(default_factory=list)
    released: list[tuple[str, float]] = field(default_factory=list)
    waiting: asyncio.Queue[Task] = field(default_factory=asyncio.Queue)
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    extended: asyncio.Event = field(default_factory=asyncio.Event)
    ours: bool = True

    def put(self, task: Task) -> None:
        self.waiting.put_nowait(task)

    async def receive(self, *, visibility: float, timeout: float) -> ListedDelivery | None:
        try:
            async with asyncio.timeout(timeout):
                return ListedDelivery(self, await self.waiting.get(), ours=self.ours)
        except TimeoutError:
            return None

    async def close(self) -> None: ...


@dataclass
class ListedResults:
    """The ``TaskSink`` port. Raises each of ``failures`` once before it takes anything."""

    images: dict[str, list[StoredObject]] = field(default_factory=dict)
    errors: dict[str, JobError] = field(default_factory=dict)
    calls: int = 0
    failures: list[SfumatoError] = field(default_factory=list)

    async def succeeded(self, task: Task, job: Job, images: Sequence[StoredObject]) -> None:
        self._called()
        self.images[task.id] = list(images)

    async def failed(self, task: Task, error: JobError) -> None:
        self._called()
        self.errors[task.id] = error

    def _called(self) -> None:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)

    async def close(self) -> None: ...
