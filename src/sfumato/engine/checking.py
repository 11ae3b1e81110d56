"""Finished pictures are looked at by a safety checker, as the settings of their jobs ask for."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from sfumato.core.errors import ContentBlocked, EngineError, InvalidRequest
from sfumato.core.layout import SAFETY_CHECKER
from sfumato.core.models import ModelInfo, ModelKind, ModelLayout
from sfumato.core.ports import DecodedImage, ImageTask
from sfumato.core.safety import NOT_CHECKED, UNSAFE, Safety
from sfumato.engine.failures import failures
from sfumato.engine.networks import Networks
from sfumato.engine.safety import SafetyChecker, load_checker

log = logging.getLogger(__name__)


class Checking:
    """Finds the checker of a task: the operator's, or that of the model's own folder."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks

    def ready(self, task: ImageTask) -> tuple[str, ...]:
        """Have the checker in memory before anything is drawn; answers notes.

        Raises:
            ModelUnusable, ModelRefused, OutOfMemory: it can't be had, and nothing may leave
                unchecked.
        """
        found = self._checker(task)
        return (found,) if isinstance(found, str) else ()

    def look(self, images: Sequence[DecodedImage]) -> list[DecodedImage]:
        """The pictures with a note on each that is unsafe, or was not looked at.

        Raises:
            ContentBlocked: one is unsafe and must not leave.
        """
        looked: list[DecodedImage] = []
        for _, alike in itertools.groupby(images, lambda image: _whose(image.task)):
            some = list(alike)
            checker = self._checker(some[0].task)
            if checker is None:
                looked += some
            elif isinstance(checker, str):
                looked += [_noted(image, checker) for image in some]
            else:
                looked += _looked(checker, some)
        return looked

    def _checker(self, task: ImageTask) -> SafetyChecker | str | None:
        """None: nobody is to look. A text: why nobody can, where that is no reason to stop."""
        if task.settings.safety is Safety.OFF:
            return None
        try:
            return self._networks.extra(_info(task), load_checker)
        except (EngineError, InvalidRequest) as error:
            if task.settings.safety is Safety.BLOCK or error.retryable:
                raise
            log.warning("job %s is not checked: %s", task.job_id, error)
            return f"{NOT_CHECKED}{error.message}"


def _looked(checker: SafetyChecker, images: Sequence[DecodedImage]) -> list[DecodedImage]:
    with failures("check a picture"):
        pictures = [
            Image.frombytes("RGB", (image.width, image.height), image.pixels) for image in images
        ]
        unsafe = checker.unsafe(pictures)
    found = []
    for image, is_unsafe in zip(images, unsafe, strict=True):
        number = f"picture {image.task.index + 1}"
        if is_unsafe and image.task.settings.safety is Safety.BLOCK:
            raise ContentBlocked(
                f"The safety checker {checker.name!r} found {number} unsafe, so it is not "
                "delivered. Another prompt or seed may help."
            )
        note = f"{UNSAFE}the safety checker {checker.name!r} flagged {number}"
        found.append(_noted(image, note) if is_unsafe else image)
    return found


def _noted(image: DecodedImage, note: str) -> DecodedImage:
    return image if note in image.notes else replace(image, notes=(*image.notes, note))


def _whose(task: ImageTask) -> tuple[Safety, str | None, str]:
    """Tasks with equal answers have one checker."""
    return task.settings.safety, task.settings.safety_checker, task.model.name


def _info(task: ImageTask) -> ModelInfo:
    if task.settings.safety_checker is not None:
        return task.extra(ModelKind.SAFETY, task.settings.safety_checker)
    return replace(
        task.model,
        kind=ModelKind.SAFETY,
        layout=ModelLayout.DIFFUSERS,
        path=str(Path(task.model.path) / SAFETY_CHECKER),
    )
