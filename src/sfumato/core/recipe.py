"""The recipe: everything that is needed to make a picture again, kept with the picture.

Two forms travel in a PNG's text chunks: ``parameters``, the text that A1111 writes and every
gallery reads (:mod:`sfumato.core.infotext`), and ``sfumato``, its JSON twin. JPEG and WebP carry
the text in EXIF's UserComment.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from sfumato import __version__
from sfumato.core.edits import Hires, Inpainting, Outpainting, Upscaling, Variation
from sfumato.core.errors import InvalidRequest
from sfumato.core.extras import Control, LoraUse, Refiner
from sfumato.core.infotext import infotext
from sfumato.core.inputs import InputImage
from sfumato.core.models import ModelInfo, ModelKind, ModelLayout
from sfumato.core.ports import ImageTask
from sfumato.core.request import Determinism, GenerationRequest, canonical_json
from sfumato.core.sizes import asked_size

#: What a recipe and a request call alike.
_SHARED = (
    *("prompt", "negative_prompt", "model", "width", "height", "num_inference_steps"),
    *("guidance_scale", "sampler", "seed", "schedule", "clip_skip", "determinism"),
    *("init_image", "strength", "inpainting", "outpainting", "hires", "upscaling"),
    *("variation", "loras", "controls", "vae", "refiner"),
)


@dataclass(frozen=True, slots=True)
class Weights:
    """A model, LoRA, VAE … that took part.

    Attributes:
        sha256: of its file, or of the whole folder as :func:`sfumato.core.models.files_digest`
            computes it; empty where nobody has.
    """

    kind: ModelKind
    name: str
    sha256: str = ""

    @classmethod
    def of(cls, model: ModelInfo) -> Weights:
        one_file = model.layout is ModelLayout.CHECKPOINT and model.files
        return cls(model.kind, model.name, model.files[0].sha256 if one_file else model.sha256)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What made one picture. Sizes in pixels; ``seed`` and the variation's are this image's own.

    Attributes:
        model_hash: identity of the weights that the engine had loaded.
        strength, determinism: as they were settled; the rest as the request has it.
        asked_width, asked_height: what to ask for to get these sizes; None unless the picture was
            enlarged or began with another.
        weights: the model and the others beside it.
        engine: what the last bits depend on beside all else: torch's version and threads, the
            device, the dtype.
    """

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
    determinism: Determinism = Determinism.FAST
    init_image: InputImage | None = None
    strength: float | None = None
    inpainting: Inpainting | None = None
    outpainting: Outpainting | None = None
    hires: Hires | None = None
    upscaling: Upscaling | None = None
    variation: Variation | None = None
    loras: tuple[LoraUse, ...] = ()
    controls: tuple[Control, ...] = ()
    vae: str | None = None
    refiner: Refiner | None = None
    asked_width: int | None = None
    asked_height: int | None = None
    weights: tuple[Weights, ...] = ()
    engine: Mapping[str, str | int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        task: ImageTask,
        *,
        model_hash: str,
        notes: Sequence[str] = (),
        engine: Mapping[str, str | int] | None = None,
    ) -> Recipe:
        """The recipe of one task; ``notes`` are added to those that the task has."""
        request, settings = task.request, task.settings
        variation = request.variation
        if variation is not None:
            variation = replace(variation, seed=(variation.seed + task.index) % 2**64)
        native = task.model.defaults.width, task.model.defaults.height
        asked = asked_size(request, native) if _is_resized(request) else (None, None)
        return cls(
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            model=settings.model,
            model_hash=model_hash,
            width=settings.width,
            height=settings.height,
            render_width=settings.render_width,
            render_height=settings.render_height,
            num_inference_steps=settings.num_inference_steps,
            guidance_scale=settings.guidance_scale,
            sampler=settings.sampler,
            seed=task.seed,
            schedule=settings.schedule,
            clip_skip=request.clip_skip,
            notes=(*task.notes, *notes),
            determinism=settings.determinism,
            init_image=request.init_image,
            strength=settings.strength,
            inpainting=request.inpainting,
            outpainting=request.outpainting,
            hires=request.hires,
            upscaling=request.upscaling,
            variation=variation,
            loras=request.loras,
            controls=request.controls,
            vae=request.vae,
            refiner=request.refiner,
            asked_width=asked[0],
            asked_height=asked[1],
            weights=tuple(map(Weights.of, (task.model, *task.extras))),
            engine=engine or {},
        )

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Reads what :meth:`as_json` wrote, of this version or an older one.

        Raises:
            InvalidRequest: it is no recipe.
        """
        try:
            data = json.loads(text)
            # The sizes of what was delivered need not be sizes that can be asked for.
            names = [name for name in _SHARED if name not in ("width", "height")]
            request = GenerationRequest.from_dict(
                {name: data[name] for name in names if data.get(name) is not None}
            )
            shared = {name: getattr(request, name) for name in names}
            own = {each.name: data[each.name] for each in fields(cls) if each.name in data}
            weights = tuple(
                Weights(ModelKind(found["kind"]), str(found["name"]), str(found["sha256"]))
                for found in data.get("weights", ())
            )
            notes = tuple(map(str, data.get("notes", ())))
            determinism = request.determinism or Determinism.FAST
            return cls(
                **{**own, **shared, "weights": weights, "notes": notes, "determinism": determinism}
            )
        except InvalidRequest as error:
            raise InvalidRequest(f"The picture's recipe can't be read: {error.message}") from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InvalidRequest(f"The picture's recipe can't be read: {error!r}.") from None

    def request(self) -> GenerationRequest:
        """What to ask for to get this picture, and it alone, again."""
        shared = {name: getattr(self, name) for name in _SHARED}
        if _is_resized(self):
            shared |= {"width": self.asked_width, "height": self.asked_height}
        return GenerationRequest(**shared)

    def as_dict(self) -> dict[str, Any]:
        """Plain data; of the fields that came after the first version, those that were used."""
        used = {
            name: value for name, value in asdict(self).items() if value or name in _TOLD_ALWAYS
        }
        plain: dict[str, Any] = json.loads(canonical_json(used))
        return plain

    def as_json(self) -> str:
        return canonical_json(self.as_dict())

    def as_parameters(self) -> str:
        """A1111's text of it."""
        return infotext(self)


#: The fields of the first version, which galleries may look for, and how exact it is.
_TOLD_ALWAYS = frozenset(
    (
        *("prompt", "negative_prompt", "model", "model_hash", "width", "height", "render_width"),
        *("render_height", "num_inference_steps", "guidance_scale", "sampler", "seed"),
        *("schedule", "clip_skip", "version", "notes", "determinism"),
    )
)


def _is_resized(made: GenerationRequest | Recipe) -> bool:
    """Whether the size that is delivered may be another than the one that was asked for."""
    return (made.init_image or made.hires or made.upscaling) is not None


def fingerprint(task: ImageTask) -> str:
    """SHA-256 over all that decides a task's pixels: equal fingerprints, equal pictures.

    It ties an exported slot to its task, so a checkpoint can't resume another picture.
    """
    recipe = Recipe.of(task, model_hash="").as_dict()
    del recipe["notes"]
    return hashlib.sha256(canonical_json(recipe).encode()).hexdigest()
