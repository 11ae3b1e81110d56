"""Jobs and their pictures, as frozen values. Sizes are pixels, durations seconds, times UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sfumato.client.answer import Answer
from sfumato.client.files import numbered, write_file
from sfumato.core.charges import NOTHING, Charge
from sfumato.core.job import JobError, JobStatus, Settings, Timings


class ImageInfo(Answer):
    """A finished picture, without its bytes; ``Client.image`` fetches them."""

    index: int
    url: str
    media_type: str
    width: int
    height: int
    size_bytes: int
    sha256: str
    seed: int


class Job(Answer):
    """A job as the service told it: the life of one request.

    Attributes:
        attempts: how many workers have tried it so far.
        cancel_requested: whether it was taken back; a running job stops at its next step.
        waiting: why a queued job is not running yet; told when it is asked for alone.
        used: every setting, with the defaults filled in.
        seed: of the first image; image ``n`` used ``seed + n``.
        notes: what you should know, as words that the model doesn't.
        error: why it failed.
        timings: where the seconds of the last attempt went.
        charge: what its attempts took of a device so far, and what that cost.
    """

    id: str
    status: JobStatus
    runtime: str
    model: str
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    attempts: int
    cancel_requested: bool = False
    waiting: str | None = None
    request: Mapping[str, Any] = {}
    used: Settings
    seed: int
    notes: tuple[str, ...] = ()
    error: JobError | None = None
    images: tuple[ImageInfo, ...] = ()
    timings: Timings = Timings()
    charge: Charge = NOTHING
    metadata: Mapping[str, Any] = {}

    @property
    def prompt(self) -> str:
        return str(self.request.get("prompt", ""))


class JobPage(Answer):
    """One page of the list of jobs. ``next``: the cursor of the page after; None on the last."""

    jobs: tuple[Job, ...]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """A picture: ``data`` is the encoded file, with its recipe inside."""

    info: ImageInfo
    data: bytes

    @property
    def seed(self) -> int:
        return self.info.seed

    @property
    def extension(self) -> str:
        """As ``png``, without a dot."""
        kind = self.info.media_type.removeprefix("image/")
        return "jpg" if kind == "jpeg" else kind

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the file; a name without an extension gets the picture's own.

        Raises:
            FileExistsError: there is such a file, and ``overwrite`` is not set.
        """
        path = Path(path)
        if not path.suffix:
            path = path.with_name(f"{path.name}.{self.extension}")
        write_file(path, self.data, overwrite=overwrite)
        return path


@dataclass(frozen=True, slots=True)
class Generation:
    """A finished job with its pictures."""

    job: Job
    images: tuple[Image, ...]

    @property
    def seed(self) -> int:
        """Of the first image. The same request with this seed gives the same pixels."""
        return self.job.seed

    @property
    def timings(self) -> Timings:
        return self.job.timings

    @property
    def notes(self) -> tuple[str, ...]:
        return self.job.notes

    def save(self, path: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write every picture: one as ``castle.png``, several as ``castle-1.png`` and so on.

        Raises:
            FileExistsError: one of the files is there, and ``overwrite`` is not set. Nothing
                that was there is touched.
        """
        paths = numbered(Path(path), len(self.images))
        return [
            image.save(target, overwrite=overwrite)
            for image, target in zip(self.images, paths, strict=True)
        ]
