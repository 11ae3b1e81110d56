"""The same request again: its pictures are copied, not drawn.

An entry is a small object that names the pictures of the job that drew them. It is written once
that job has succeeded, and is worth nothing once they are gone. Whatever goes wrong here makes a
miss: the job is then drawn as any other.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from sfumato.core.errors import NotFound, SfumatoError
from sfumato.core.events import EventKind, NewEvent
from sfumato.core.job import ImageRecord, Job, JobStatus, image_key, recipe_key
from sfumato.core.models import ModelInfo
from sfumato.core.ports import Clock, ImageStore, ImageTask, JobStore, ModelCatalog
from sfumato.core.recipe import Recipe, fingerprint
from sfumato.core.request import canonical_json
from sfumato.core.safety import UNSAFE
from sfumato.services.models import models_of

log = logging.getLogger(__name__)

#: The worker that the attempts of such jobs name.
WORKER = "result-cache"
#: Seconds for which it holds a job that it ends at once.
_LEASE = 30.0


@dataclass(frozen=True, slots=True)
class Remembered:
    """An entry: its own key, the job that has the pictures, and these."""

    key: str
    job_id: str
    images: tuple[ImageRecord, ...]


class ResultCache:
    """Remembers what jobs have drawn.

    A request is the same when all is equal that decides its pixels and their files: a seed that was
    given, the settings with every default filled in, how exact they are, the digests of all weights
    and of the pictures it brings, the number of pictures, the format. Where a digest is not known,
    or a picture was found unsafe, nothing is remembered. Callers with keys of their own see their own results alone.
    """

    def __init__(
        self, *, store: JobStore, images: ImageStore, catalog: ModelCatalog, clock: Clock
    ) -> None:
        self._store = store
        self._images = images
        self._catalog = catalog
        self._clock = clock

    async def keep(
        self, job: Job, images: Sequence[ImageRecord], recipe: Mapping[str, object]
    ) -> None:
        """Remember the pictures of a job that has succeeded.

        Args:
            recipe: what its worker tells of it. The weights that it names must be those that the
                catalogue has now: they may have been replaced since.
        """
        try:
            model, extras = await models_of(self._catalog, job)
            key = result_key(job, model, extras)
            if key is None or _weights_in(recipe) != _weights_of(job, model, extras):
                return
            if _tells_of_unsafe(recipe):
                return
            await self._write(key, job, images)
        except SfumatoError as error:
            log.warning("the pictures of job %s are not remembered: %s", job.id, error)

    async def _write(self, key: str, job: Job, images: Sequence[ImageRecord]) -> None:
        entry = {"job": job.id, "images": [asdict(image) for image in images]}
        data = canonical_json(entry).encode()
        await self._images.put(key, data, media_type="application/json")

    async def find(
        self, job: Job, model: ModelInfo, extras: Sequence[ModelInfo]
    ) -> Remembered | None:
        """What a job that is yet to be made would draw."""
        key = result_key(job, model, extras)
        if key is None:
            return None
        try:
            entry = json.loads((await self._images.get(key)).data)
            images = tuple(ImageRecord(**image) for image in entry["images"])
            return Remembered(key, str(entry["job"]), images)
        except NotFound:
            return None
        except (SfumatoError, ValueError, KeyError, TypeError) as error:
            log.warning("an entry of the result cache is passed over: %s", error)
            return None

    async def copy(self, job: Job, found: Remembered) -> tuple[ImageRecord, ...] | None:
        """Put the pictures, and their recipe, under the keys of a job that is yet to be made. None
        where one of them is gone, or no longer what it was; then nothing stays behind."""
        try:
            copies = [await self._copied(job, image) for image in found.images]
            recipe = await self._images.get(recipe_key(found.job_id))
            await self._images.put(recipe_key(job.id), recipe.data, media_type=recipe.media_type)
        except SfumatoError as error:
            log.info("what job %s drew is drawn again: %s", found.job_id, error)
            await self.forget(job)
            return None
        return tuple(copies)

    async def _copied(self, job: Job, image: ImageRecord) -> ImageRecord:
        stored = await self._images.get(image.key)
        if hashlib.sha256(stored.data).hexdigest() != image.sha256:
            raise NotFound(f"{image.key} is no longer the picture that it was.")
        key = image_key(job.id, image.index, job.request.output_format)
        await self._images.put(key, stored.data, media_type=image.media_type)
        return replace(image, key=key)

    async def complete(self, job: Job, found: Remembered, copies: Sequence[ImageRecord]) -> Job:
        """End a job that was just made, with pictures that lie under its keys already.

        A worker that came first, or whatever goes wrong on the way, leaves a job as any other.
        """
        try:
            await self._end(job, found, copies)
            return await self._store.get(job.id)
        except SfumatoError as error:
            log.warning("job %s is drawn, though it was before: %s", job.id, error)
            return job

    async def _end(self, job: Job, found: Remembered, copies: Sequence[ImageRecord]) -> None:
        now = self._clock.now()
        held = await self._store.claim(job.id, worker=WORKER, now=now, lease_until=now + _LEASE)
        if held is not None:
            ready = [NewEvent(EventKind.IMAGE, now, {"index": image.index}) for image in copies]
            await self._store.append(job.id, held.attempt, ready)
            note = f"drawn before as job {found.job_id}; its pictures were copied"
            await self._store.finish(
                job.id,
                held.attempt,
                status=JobStatus.SUCCEEDED,
                now=now,
                images=copies,
                notes=[note],
            )
            # The newer job's are kept longer.
            await self._write(found.key, job, copies)

    async def forget(self, job: Job) -> None:
        """Delete the copies of a job that was not made; what can't be deleted is left."""
        prefix = image_key(job.id, 0, job.request.output_format).rpartition("/")[0]
        try:
            await self._images.delete_prefix(f"{prefix}/")
        except SfumatoError as error:
            log.warning("pictures of a job that was not made are left in the store: %s", error)


def result_key(job: Job, model: ModelInfo, extras: Sequence[ModelInfo]) -> str | None:
    """Object key of the entry of a job's results; None where they can't be told from others."""
    if job.request.seed is None:
        return None
    if not all(weights["sha256"] for weights in _weights_of(job, model, extras)):
        return None
    what = {
        # The pictures after the first follow from it: each has the next seed.
        "picture": fingerprint(_first_task(job, model, extras)),
        "settings": asdict(job.settings),
        "num_images": job.request.num_images,
        "output_format": job.request.output_format,
        "owner": job.owner,
    }
    if job.request.output_quality is not None:
        what["output_quality"] = job.request.output_quality
    return f"results/{hashlib.sha256(canonical_json(what).encode()).hexdigest()}.json"


def _first_task(job: Job, model: ModelInfo, extras: Sequence[ModelInfo]) -> ImageTask:
    return ImageTask(job.id, 0, job.request, job.settings, model, extras=tuple(extras))


def _weights_of(
    job: Job, model: ModelInfo, extras: Sequence[ModelInfo]
) -> Sequence[Mapping[str, str]]:
    """As the recipe of the job's first picture would tell them."""
    recipe = Recipe.of(_first_task(job, model, extras), model_hash="")
    weights: Sequence[Mapping[str, str]] = recipe.as_dict()["weights"]
    return weights


def _tells_of_unsafe(recipe: Mapping[str, object]) -> bool:
    """Whether a note says so, which would be lost with a copy."""
    images = recipe.get("images")
    told = (image.get("notes", ()) for image in images) if isinstance(images, list) else ()
    return any(str(note).startswith(UNSAFE) for notes in told for note in notes)


def _weights_in(recipe: Mapping[str, object]) -> object:
    match recipe:
        case {"images": [{"weights": weights}, *_]}:
            return weights
    return None
