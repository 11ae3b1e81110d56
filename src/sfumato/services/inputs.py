"""The pictures that requests bring along: kept beside their job's own, and deleted with them."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from sfumato.core.errors import InvalidRequest, NotFound, SfumatoError, Unavailable
from sfumato.core.inputs import InputImage, input_key
from sfumato.core.job import Job
from sfumato.core.ports import ImageStore, JobStore
from sfumato.core.request import GenerationRequest

log = logging.getLogger(__name__)


def check_inputs(request: GenerationRequest, inputs: Mapping[str, bytes]) -> None:
    """Raises ``InvalidRequest`` when a picture that the request names did not come with it."""
    missing = [image.sha256 for image in request.inputs() if image.sha256 not in inputs]
    if missing:
        raise InvalidRequest(
            f"The picture with the SHA-256 {missing[0]} did not come with the request.",
            accepted="the files of all pictures that the request names",
        )


async def store_inputs(images: ImageStore, job: Job, inputs: Mapping[str, bytes]) -> None:
    """Put the files of a job that is yet to be created: a crash after it leaves objects that
    nobody names, and never a job without its pictures.

    Raises ``StorageFull`` or ``Unavailable``, with nothing left behind where that can be done.
    """
    try:
        for image in job.request.inputs():
            key = input_key(job.id, image.sha256)
            await images.put(key, inputs[image.sha256], media_type=image.media_type)
    except SfumatoError:
        await forget_inputs(images, job)
        raise


async def read_inputs(images: ImageStore, job: Job) -> dict[str, bytes]:
    """The files of a job's pictures, by their SHA-256. Raises ``NotFound`` or ``Unavailable``."""
    return {
        image.sha256: (await images.get(input_key(job.id, image.sha256))).data
        for image in job.request.inputs()
    }


async def forget_inputs(images: ImageStore, job: Job) -> None:
    """Delete the files of a job that was not created; what can't be deleted is left."""
    if not job.request.inputs():
        return
    try:
        await images.delete_prefix(input_key(job.id, ""))
    except Unavailable as error:
        log.warning("pictures of a job that was not made are left in the store: %s", error)


async def forget_unless_created(images: ImageStore, store: JobStore, job: Job) -> None:
    """After a ``create`` that failed. Its answer alone may have been lost: then the job is there,
    and needs them."""
    if not job.request.inputs():
        return
    try:
        await store.get(job.id)
    except NotFound:
        await forget_inputs(images, job)
    except SfumatoError as error:
        log.warning("pictures of job %s are kept, for it may have been made: %s", job.id, error)


def input_of(job: Job, sha256: str) -> InputImage:
    """What is known of one of a job's pictures. Raises ``NotFound``."""
    for image in job.request.inputs():
        if image.sha256 == sha256:
            return image
    raise NotFound(f"Job {job.id} brought no picture with the SHA-256 {sha256[:64]!r}.")
