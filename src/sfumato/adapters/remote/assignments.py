"""The ``Assignments`` port over HTTPS.

The service going away for a while must not cost the work: reads and writes are tried again, and an
attempt is lost only when the service says so. Every call may arrive twice: the service knows the
attempt by its token, and answers the second time as it did the first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from sfumato.adapters.remote.connection import RemoteConnection
from sfumato.core import wire
from sfumato.core.errors import (
    AttemptLost,
    Forbidden,
    InvalidRequest,
    NotFound,
    SfumatoError,
    Unauthorized,
    Unavailable,
)
from sfumato.core.job import ImageRecord, Job, JobError, Timings, image_key
from sfumato.core.models import ModelInfo
from sfumato.core.ports import Assignment, Clock, EncodedImage, Progress, Revocation

log = logging.getLogger(__name__)

#: Seconds that one call of the service may wait for something to happen.
_LONG_POLL = 25.0
#: Seconds for which a write is tried before its caller hears of it, and tries again in its turn.
_WRITE_PATIENCE = 30.0
#: What the service takes at most.
_MAX_MESSAGE, _MAX_NOTES, _MAX_REASON = 2000, 64, 200
#: What is left to say to an attempt that the service no longer takes from us.
_NOT_OURS = (AttemptLost, Unauthorized, Forbidden)

_Key = tuple[str, int]


@dataclass(slots=True)
class _Held:
    """An attempt under way. Times are monotonic seconds.

    Attributes:
        asked_at: when the worker last wanted to keep it.
        confirmed_at: when the service last said that it is ours.
    """

    asked_at: float
    confirmed_at: float


class RemoteAssignments:
    """Assignments from a service elsewhere.

    Args:
        runtime: the pool it works for.
        lease: seconds for which the service keeps an attempt without a heartbeat.
        locate: finds a model on this machine, or marks it as one to be brought.
    """

    def __init__(
        self,
        connection: RemoteConnection,
        *,
        runtime: str,
        lease: float,
        clock: Clock,
        locate: Callable[[ModelInfo], ModelInfo],
    ) -> None:
        self._connection = connection
        self._runtime = runtime
        self._lease = lease
        self._clock = clock
        self._locate = locate
        self._held: dict[_Key, _Held] = {}
        self._beat = asyncio.Lock()
        #: Once the service has said that it has no bucket for workers.
        self._uploads_here = False

    async def next(self, *, timeout: float) -> Assignment | None:
        deadline = self._clock.monotonic() + timeout
        while True:
            left = max(0.0, deadline - self._clock.monotonic())
            wait = min(left, _LONG_POLL)
            body = {"runtime": self._runtime, "wait": wait, "holding": self._holding()}
            claimed = await self._connection.call("POST", "/claim", body, patience=left)
            if claimed is not None:
                assignment = await self._assignment(claimed)
                if assignment is not None:
                    return assignment
                continue
            if left <= wait:
                return None

    def _holding(self) -> list[dict[str, Any]]:
        return [{"job_id": job_id, "attempt": attempt} for job_id, attempt in self._held]

    async def _assignment(self, claimed: Mapping[str, Any]) -> Assignment | None:
        """None: the pictures of the job can't be had here, and the service knows."""
        try:
            job = wire.job_from_data(claimed["job"])
            model = self._locate(wire.model_from_data(claimed["model"]))
            extras = tuple(self._locate(wire.model_from_data(each)) for each in claimed["extras"])
            urls = [str(url) for url in claimed["checkpoint"]]
            inputs = {
                image.sha256: str(claimed["inputs"][image.sha256]) for image in job.request.inputs()
            }
        except (KeyError, TypeError, ValueError, InvalidRequest) as error:
            raise Unavailable(
                f"The service gave a job that this version can't read ({type(error).__name__}). "
                "Update this worker, or the service."
            ) from None
        key, now = (job.id, job.attempt), self._clock.monotonic()
        self._held[key] = _Held(asked_at=now, confirmed_at=now)
        try:
            return await self._with_files(Assignment(job, model, extras=extras), urls, inputs)
        except BaseException:
            # Nobody takes it on: the service may give it again, or to others once we leave.
            del self._held[key]
            raise

    async def _with_files(
        self, assignment: Assignment, checkpoint: Sequence[str], inputs: Mapping[str, str]
    ) -> Assignment | None:
        files = {}
        for sha256, url in inputs.items():
            try:
                files[sha256] = await self._connection.get(url, patience=self._lease / 6)
            except (NotFound, InvalidRequest, Unavailable) as error:
                await self.fail(assignment, JobError.of(error), retryable=True)
                return None
            except _NOT_OURS as error:
                log.debug("job %s: %s", assignment.job.id, error)
                self._held.pop(_key(assignment), None)
                return None
        slots = await self._checkpoint(assignment.job, checkpoint)
        return replace(assignment, checkpoint=slots, inputs=files)

    async def _checkpoint(self, job: Job, urls: Sequence[str]) -> dict[int, bytes]:
        slots = {}
        for index, url in enumerate(urls):
            try:
                slots[index] = await self._connection.get(url, patience=self._lease / 6)
            except SfumatoError as error:
                log.info("job %s: image %d starts at its first step (%s)", job.id, index, error)
        return slots

    async def extend(self, assignment: Assignment) -> bool:
        """One call extends all that is held: those asked for right after it have their answer."""
        key = _key(assignment)
        async with self._beat:
            held, now = self._held.get(key), self._clock.monotonic()
            if held is None:
                return False
            held.asked_at = now
            if now - held.confirmed_at >= self._lease / 6:
                await self._heartbeat(now)
        return key in self._held

    async def _heartbeat(self, now: float) -> None:
        """Tried until the service answers: one that has just come back gives what ran out
        meanwhile only moments to be renewed."""
        for key, held in list(self._held.items()):
            if now - held.asked_at > 2 * self._lease / 3:
                del self._held[key]  # the worker has given it up
        asked = list(self._held)
        try:
            answer = await self._connection.call(
                "POST", "/heartbeat", {"holding": self._holding()}, patience=10 * self._lease
            )
            states = [] if answer is None else answer["states"]
        except (Unauthorized, Forbidden) as error:
            log.warning("the service takes no more from this worker: %s", error)
            states = ["lost"] * len(asked)
        now = self._clock.monotonic()
        for key, state in zip(asked, states, strict=False):
            if state == "lost":
                self._held.pop(key, None)
            elif key in self._held:
                self._held[key].confirmed_at = now

    async def revoked(self, assignment: Assignment) -> Revocation:
        path = f"{_path(assignment)}/watch"
        while True:
            try:
                answer = await self._connection.call(
                    "POST", path, {"wait": _LONG_POLL}, patience=_WRITE_PATIENCE
                )
            except _NOT_OURS:
                return Revocation.LOST
            if answer is not None and answer["revocation"] is not None:
                return Revocation(answer["revocation"])

    async def loading(
        self, assignment: Assignment, *, fetched: tuple[int, int] | None = None
    ) -> None:
        try:
            await self._tell(assignment, "loading", {"fetched": fetched})
        except Unavailable as error:
            log.warning("the loading of job %s was not told: %s", assignment.job.id, error)

    async def report(self, assignment: Assignment, progress: Progress) -> None:
        await self._tell(assignment, "progress", asdict(progress))

    async def _tell(self, assignment: Assignment, what: str, body: Mapping[str, Any]) -> None:
        """A report is not worth a second try: the next says more."""
        try:
            await self._connection.call("POST", f"{_path(assignment)}/{what}", body)
        except _NOT_OURS as error:
            log.debug("job %s: %s", assignment.job.id, error)

    async def store(self, assignment: Assignment, image: EncodedImage) -> ImageRecord:
        job = assignment.job
        path = f"{_path(assignment)}/images/{image.index}"
        try:
            asked = {"media_type": image.media_type}
            if await self._upload(path, image.data, asked, media_type=image.media_type):
                told = {"size_bytes": len(image.data)}
                await self._connection.call("POST", path, told, patience=_WRITE_PATIENCE)
        except _NOT_OURS as error:
            # As beside the store, the end of the attempt will tell that it was lost.
            log.debug("job %s: %s", job.id, error)
        return image.stored_at(image_key(job.id, image.index, job.request.output_format))

    async def _upload(
        self, path: str, data: bytes, asked: Mapping[str, Any] | None, *, media_type: str
    ) -> bool:
        """Put an object where the service wants it: True in its bucket, of which it does not hear
        by itself, False with the service. A bucket's URL is asked for each time, as it expires."""
        if not self._uploads_here:
            place = await self._connection.call(
                "POST", f"{path}/upload", asked, patience=_WRITE_PATIENCE
            )
            if place is None:
                raise Unavailable("The service does not say where to store a picture.")
            if urlsplit(place["url"]).scheme:
                await self._put(place["url"], data, place["headers"])
                return True
            self._uploads_here = True
        await self._put(f"/v1/worker{path}", data, {"Content-Type": media_type})
        return False

    async def _put(self, url: str, data: bytes, headers: Mapping[str, str]) -> None:
        try:
            await self._connection.put(url, data, headers, patience=_WRITE_PATIENCE)
        except NotFound as error:  # a URL that has expired: whoever tries again gets a new one
            raise Unavailable(error.message) from None

    async def complete(
        self,
        assignment: Assignment,
        images: Sequence[ImageRecord],
        *,
        timings: Timings,
        notes: Sequence[str],
        recipe: Mapping[str, object],
        gpu_seconds: float | None = None,
    ) -> bool:
        body = {
            "images": [wire.image_to_data(image) for image in images],
            "timings": {phase: max(0.0, spent) for phase, spent in asdict(timings).items()},
            "notes": [note[:_MAX_MESSAGE] for note in notes[:_MAX_NOTES]],
            "recipe": recipe,
            "gpu_seconds": gpu_seconds,
        }
        return await self._end(assignment, "complete", body)

    async def fail(
        self,
        assignment: Assignment,
        error: JobError,
        *,
        retryable: bool,
        gpu_seconds: float = 0.0,
    ) -> bool:
        body = {
            "code": error.code,
            "message": error.message[:_MAX_MESSAGE],
            "retryable": retryable,
            "gpu_seconds": gpu_seconds,
        }
        return await self._end(assignment, "fail", body)

    async def canceled(self, assignment: Assignment, *, gpu_seconds: float = 0.0) -> bool:
        return await self._end(assignment, "canceled", {"gpu_seconds": gpu_seconds})

    async def release(
        self,
        assignment: Assignment,
        *,
        reason: str,
        checkpoint: Mapping[int, bytes],
        gpu_seconds: float = 0.0,
    ) -> bool:
        try:
            for index, blob in checkpoint.items():
                path = f"{_path(assignment)}/checkpoints/{index}"
                await self._upload(path, blob, None, media_type="application/octet-stream")
        except _NOT_OURS:
            self._held.pop(_key(assignment), None)
            return False
        body = {
            "reason": reason[:_MAX_REASON],
            "resumable": bool(checkpoint),
            "gpu_seconds": gpu_seconds,
        }
        return await self._end(assignment, "release", body)

    async def _end(self, assignment: Assignment, how: str, body: Mapping[str, Any]) -> bool:
        try:
            answer = await self._connection.call(
                "POST", f"{_path(assignment)}/{how}", body, patience=_WRITE_PATIENCE
            )
        except _NOT_OURS as error:
            log.debug("job %s: %s", assignment.job.id, error)
            answer = None
        self._held.pop(_key(assignment), None)
        return answer is not None and answer["accepted"] is True

    async def leave(self) -> None:
        """Tell the service that this worker ends: what it was given and does not know of, or has
        given up, need not wait for its lease."""
        try:
            await self._connection.call("POST", "/leave", {"holding": []})
        except SfumatoError as error:
            log.debug("could not take leave: %s", error)


def _key(assignment: Assignment) -> _Key:
    return assignment.job.id, assignment.job.attempt


def _path(assignment: Assignment) -> str:
    return f"/jobs/{assignment.job.id}/{assignment.job.attempt}"
