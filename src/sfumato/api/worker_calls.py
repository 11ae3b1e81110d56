"""Who calls the worker API, and where its bytes go."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Path, Request

from sfumato.api.context import RemoteParts, Services
from sfumato.api.problems import UnsupportedMediaType
from sfumato.api.worker_schemas import Upload
from sfumato.core.errors import InvalidRequest, NotFound, Unauthorized
from sfumato.core.inputs import input_key
from sfumato.core.job import Job, checkpoint_key
from sfumato.core.ports import WorkerToken
from sfumato.core.request import OutputFormat
from sfumato.services.remote_work import AttemptRef
from sfumato.services.worker_access import worker_name

#: Seconds for which a presigned URL is good.
URL_SECONDS = 900.0
#: A picture or a state at most. 2048 x 2048 pixels in four bytes each are 16 MiB.
MAX_BLOB_BYTES = 64 << 20
#: The recipes of 64 pictures, each with two prompts of 20,000 characters.
MAX_COMPLETION_BYTES = 16 << 20
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")


@dataclass(frozen=True, slots=True)
class Caller:
    """A worker whose token is good.

    Attributes:
        worker: what it is called here.
        secret: its token, to be checked once more after a wait.
    """

    parts: RemoteParts
    token: WorkerToken
    worker: str
    _secret: str

    def __repr__(self) -> str:
        return f"Caller({self.worker!r})"

    async def check(self, *, runtime: str | None = None) -> None:
        """Raises ``Unauthorized`` or ``Forbidden``, by what the store says now."""
        await self.parts.access.authenticate(self._secret, runtime=runtime)


async def _caller(
    context: Services,
    request: Request,
    x_sfumato_worker: Annotated[
        str, Header(description="The worker's name, unique among the token's worker processes.")
    ],
) -> Caller:
    if context.remote is None:
        raise NotFound("This service takes no workers from elsewhere.")
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret:
        raise Unauthorized("This needs a worker token, as `Authorization: Bearer sfw_…`.")
    token = await context.remote.access.authenticate(secret.strip())
    if _NAME.fullmatch(x_sfumato_worker) is None:
        raise InvalidRequest(
            "The worker's name can't be used.",
            field="X-Sfumato-Worker",
            accepted="1 to 100 letters, digits, '.', '_' or '-'",
        )
    return Caller(context.remote, token, worker_name(token, x_sfumato_worker), secret.strip())


CallerDep = Annotated[Caller, Depends(_caller)]


def _attempt(
    job_id: Annotated[str, Path(max_length=64, pattern="^[A-Za-z0-9]+$")],
    attempt: Annotated[int, Path(ge=1, lt=2**31)],
) -> AttemptRef:
    return AttemptRef(job_id, attempt)


AttemptDep = Annotated[AttemptRef, Depends(_attempt)]


async def blob_upload(caller: Caller, key: str, media_type: str, *, fallback: str) -> Upload:
    """Where an object is to be PUT: into its bucket, or here at ``fallback``."""
    url = await caller.parts.images.upload_url(key, expires=URL_SECONDS)
    # Azure asks for the second; other stores pay no attention to it.
    headers = {"Content-Type": media_type, "x-ms-blob-type": "BlockBlob"}
    return Upload(url=url or fallback, headers=headers)


async def checkpoint_urls(caller: Caller, job: Job) -> list[str]:
    """Where the states of an earlier attempt can be read, by image; empty when there are none."""
    if job.checkpoint is None:
        return []
    urls = []
    for index in range(job.request.num_images):
        key = checkpoint_key(job.id, index)
        url = await caller.parts.images.download_url(key, expires=URL_SECONDS)
        urls.append(url or f"/v1/worker/jobs/{job.id}/{job.attempt}/checkpoints/{index}")
    return urls


async def input_urls(caller: Caller, job: Job) -> dict[str, str]:
    """Where the pictures that a job brought along can be read, by their SHA-256."""
    urls = {}
    for image in job.request.inputs():
        key = input_key(job.id, image.sha256)
        url = await caller.parts.images.download_url(key, expires=URL_SECONDS)
        here = f"/v1/worker/jobs/{job.id}/{job.attempt}/inputs/{image.sha256}"
        urls[image.sha256] = url or here
    return urls


def image_type(request: Request) -> str:
    """The body's media type, of those that pictures have."""
    given = request.headers.get("content-type", "")
    known = [output_format.media_type for output_format in OutputFormat]
    if given not in known:
        raise UnsupportedMediaType(
            "The body's Content-Type is not a picture's.", field="Content-Type", accepted=known
        )
    return given
