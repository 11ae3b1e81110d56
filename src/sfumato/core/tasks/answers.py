"""What is answered to a task: the names of its objects, and two documents.

The seed of all names is the message, so a second delivery of it writes the same objects, and two
tasks that were given one id by mistake write none of each other's.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sfumato.core.job import Job, JobError
from sfumato.core.tasks.messages import ParsedTask, TaskFormat

_NAMES = uuid.UUID("6e1f6a0c-1c7b-5d1e-9a55-7f0f2f4b7a11")


def failure_of(job: Job) -> JobError:
    """Why a job ended without pictures."""
    return job.error or JobError("canceled", f"Job {job.id} was canceled.")


@dataclass(frozen=True, slots=True)
class Answer:
    """How a task is answered.

    Attributes:
        origin: names the message, the same at each of its deliveries.
        sent_at: when it was sent, in seconds since the epoch.
    """

    task: ParsedTask
    origin: str
    sent_at: float

    def image_key(self, index: int, extension: str) -> str:
        """Key of picture ``index`` (from 0)."""
        if self.task.format is TaskFormat.V1ALPHA2:
            return f"{self.task.folder}/{self.task.id}-{self._short()}-{index + 1}.{extension}"
        stamp = datetime.fromtimestamp(self.sent_at, UTC).strftime("%Y%m%d%H%M%S")
        return f"{self.task.folder}/{stamp}-{self._name(str(index))}.{extension}"

    @property
    def document_key(self) -> str:
        if self.task.format is TaskFormat.V1ALPHA2:
            return f"{self.task.folder}/{self.task.id}-{self._short()}.out"
        return f"{self.task.folder}/response-{self._name('response')}.out"

    def succeeded(self, urls: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
        """The document of a task whose pictures lie at ``urls``."""
        parameters = {
            **self.task.parameters,
            "id_task": self.task.id,
            "image_seed": ",".join(map(str, seeds)),
            "error_msg": "",
        }
        if self.task.format is not TaskFormat.V1ALPHA2:
            parameters |= {"status": 1, "image_url": ",".join(urls), "image_mask_url": ""}
        return _document(parameters)

    def failed(self, error: JobError) -> dict[str, Any]:
        """The document of a task that ended without pictures."""
        own = {
            "id_task": self.task.id,
            "status": 0,
            "error_msg": error.message,
            "reason": error.code,
        }
        if self.task.format is TaskFormat.V1ALPHA2:
            return _document(own)
        none = {"image_url": "", "image_seed": "", "image_mask_url": ""}
        return _document({**self.task.parameters, **none, **own})

    def running(self) -> Mapping[str, Any] | None:
        """What the output topic is told once a worker draws; None: this format has no such thing."""
        if self.task.format is not TaskFormat.V1ALPHA2:
            return None
        return {
            "runtime": self.task.runtime,
            "id": self.task.id,
            "status": "running",
            "context": self.task.context,
        }

    def notification(
        self, document: Mapping[str, Any], urls: Sequence[str], document_url: str, *, result: bool
    ) -> Mapping[str, Any]:
        """What the output topic is told: v0 repeats the document, v1alpha2 points to it."""
        if self.task.format is not TaskFormat.V1ALPHA2:
            return document
        return {
            "runtime": self.task.runtime,
            "id": self.task.id,
            "result": result,
            "status": "completed" if result else "failed",
            "image_url": list(urls),
            "output_url": document_url,
            "context": self.task.context,
        }

    def without_echo(self, notification: Mapping[str, Any]) -> Mapping[str, Any]:
        """A notification too long for SNS: less of what its sender knows already."""
        if self.task.format is TaskFormat.V1ALPHA2:
            return {**notification, "context": {}}
        kept = notification["parameters"].items()
        return _document(
            {key: value for key, value in kept if key not in self.task.parameters.keys() - _OWN}
        )

    def _name(self, part: str) -> uuid.UUID:
        return uuid.uuid5(_NAMES, f"{self.origin}/{part}")

    def _short(self) -> str:
        return hashlib.sha256(self.origin.encode()).hexdigest()[:4]


#: Parameters of an answer that are ours, whatever the sender called its own.
_OWN = frozenset(
    {"id_task", "status", "image_url", "image_seed", "image_mask_url", "error_msg", "reason"}
)


def _document(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {"images": [""], "parameters": dict(parameters), "info": ""}
