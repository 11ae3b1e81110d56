"""The recipe: everything that is needed to make a picture again, kept with the picture.

Two forms travel in a PNG's text chunks: ``parameters``, the text that A1111 writes and every
gallery reads, and ``sfumato``, its JSON twin. JPEG and WebP carry the text in EXIF's UserComment.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sfumato import __version__
from sfumato.core.ports import ImageTask
from sfumato.core.request import canonical_json
from sfumato.core.samplers import sampler_label, schedule_label


@dataclass(frozen=True, slots=True)
class Recipe:
    """What made one picture. Sizes in pixels; ``seed`` is this image's own."""

    prompt: str
    negative_prompt: str
    model: str
    model_hash: str
    width: int
    height: int
    render_width: int
    render_height: int
    num_inference_steps: int
    guidance_scale: float
    sampler: str
    seed: int
    schedule: str | None = None
    clip_skip: int = 1
    version: str = __version__
    notes: Sequence[str] = ()

    @classmethod
    def of(cls, task: ImageTask, *, model_hash: str, notes: Sequence[str] = ()) -> Recipe:
        """The recipe of one task; ``notes`` are added to those that the task has."""
        settings = task.settings
        return cls(
            prompt=task.request.prompt,
            negative_prompt=task.request.negative_prompt,
            model=settings.model,
            model_hash=model_hash,
            width=settings.width,
            height=settings.height,
            render_width=settings.render_width,
            render_height=settings.render_height,
            num_inference_steps=settings.num_inference_steps,
            guidance_scale=settings.guidance_scale,
            sampler=settings.sampler,
            seed=settings.image_seed(task.index),
            schedule=settings.schedule,
            clip_skip=task.request.clip_skip,
            notes=(*task.notes, *notes),
        )

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "notes": list(self.notes)}

    def as_json(self) -> str:
        return canonical_json(self.as_dict())

    def as_parameters(self) -> str:
        """A1111's infotext: prompt, negative prompt, then one line of ``Key: value`` pairs."""
        lines = [self.prompt]
        if self.negative_prompt:
            lines.append(f"Negative prompt: {self.negative_prompt}")
        pairs = {"Steps": self.num_inference_steps, "Sampler": sampler_label(self.sampler)}
        if self.schedule is not None:
            pairs["Schedule type"] = schedule_label(self.schedule)
        pairs |= {
            "CFG scale": f"{self.guidance_scale:g}",
            "Seed": self.seed,
            "Size": f"{self.render_width}x{self.render_height}",
            "Model hash": self.model_hash[:10],
            "Model": self.model,
            "Version": f"Sfumato {self.version}",
        }
        if self.clip_skip > 1:
            pairs["Clip skip"] = self.clip_skip
        if (self.width, self.height) != (self.render_width, self.render_height):
            pairs["Resampled to"] = f"{self.width}x{self.height}"
        lines.append(", ".join(f"{key}: {_quoted(value)}" for key, value in pairs.items()))
        return "\n".join(lines)


def fingerprint(task: ImageTask) -> str:
    """SHA-256 over all that decides a task's pixels: equal fingerprints, equal pictures.

    It ties an exported slot to its task, so a checkpoint can't resume another picture.
    """
    recipe = Recipe.of(task, model_hash="").as_dict()
    del recipe["notes"]
    return hashlib.sha256(canonical_json(recipe).encode()).hexdigest()


def _quoted(value: object) -> str:
    """A value that holds a separator is put into quotes, as A1111 does."""
    text = str(value)
    return canonical_json(text) if any(mark in text for mark in ",:\n") else text
