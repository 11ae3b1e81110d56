"""What is known of a model without loading it, and how a request is settled on one."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from sfumato.core.errors import ModelRefused, UnknownModel
from sfumato.core.job import Settings
from sfumato.core.prompts import check_prompts, parse_prompt, prompt_notes
from sfumato.core.request import GenerationRequest
from sfumato.core.samplers import resolve_sampler, resolve_schedule


class ModelLayout(StrEnum):
    """How the weights lie on disk."""

    DIFFUSERS = "diffusers"  #: a folder with model_index.json
    CHECKPOINT = "checkpoint"  #: one .safetensors file, as A1111 users have them


@dataclass(frozen=True, slots=True)
class ModelDefaults:
    """What a request gets that leaves a field out. Sizes in pixels."""

    width: int = 512
    height: int = 512
    num_inference_steps: int = 25
    guidance_scale: float = 7.0
    sampler: str = "dpmpp_2m"


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model.

    Attributes:
        path: below the model's folder, with ``/`` between its parts.
        sha256: of its content, in hex; empty where nobody has computed it.
        version: the bucket's own mark of this content; empty on disk.
    """

    path: str
    size_bytes: int
    sha256: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One model of the catalogue.

    Attributes:
        path: the local folder or file that the engine loads; empty while it lies in a bucket.
        sizes: the (width, height) pairs that it draws well; empty: any size.
        vocabulary: every word it knows, lower case; None: no such list.
        refusal: why it must not be loaded (a pickle, say); None when it may.
        memory_bytes: what a worker needs for one picture, see :func:`memory_needed`; 0: unknown.
        files: what the engine reads of it; of a checkpoint, that file first.
        source: the folder in the models' bucket that ``files`` lie in; empty on disk.
    """

    name: str
    family: str
    layout: ModelLayout
    path: str
    size_bytes: int = 0
    title: str = ""
    description: str = ""
    license: str = ""
    defaults: ModelDefaults = field(default_factory=ModelDefaults)
    sizes: tuple[tuple[int, int], ...] = ()
    vocabulary: frozenset[str] | None = None
    refusal: str | None = None
    memory_bytes: int = 0
    files: tuple[ModelFile, ...] = ()
    source: str = ""

    @property
    def sha256(self) -> str:
        """The digest of the whole model; empty unless that of every file is known."""
        if not self.files or not all(file.sha256 for file in self.files):
            return ""
        return files_digest(self.files)


def files_digest(files: Iterable[ModelFile]) -> str:
    """SHA-256, in hex, over every file's path, size and content's digest, by path.

    Where a file's own is not known, the bucket's mark of its content stands in: such a digest
    tells two versions apart, but can't be checked.
    """
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.path):
        line = f"{file.sha256 or file.version} {file.size_bytes} {file.path}\n"
        digest.update(line.encode())
    return digest.hexdigest()


#: Bytes of a weight in half precision, in which a GPU computes.
_WEIGHT_BYTES = 2
#: What the VAE holds for each pixel while it decodes, the peak of a picture's memory: six tensors
#: of 256 channels in half precision.
_WORKING_BYTES_PER_PIXEL = 6 * 256 * 2
#: What a GPU's driver and libraries take before the first tensor.
_RUNTIME_BYTES = 512 << 20


def memory_needed(weights: int, defaults: ModelDefaults) -> int:
    """Bytes that a worker needs for one picture of the model's own size, in half precision.

    An estimate: 2 bytes a weight, 3 KiB a pixel, and 0.5 GiB for the GPU's libraries. A CPU
    computes in single precision and needs about twice as much.

    Args:
        weights: how many numbers the networks have.
    """
    pixels = defaults.width * defaults.height
    return weights * _WEIGHT_BYTES + pixels * _WORKING_BYTES_PER_PIXEL + _RUNTIME_BYTES


def choose_model(models: Iterable[ModelInfo], name: str) -> ModelInfo:
    """The model of that name.

    Raises:
        UnknownModel: no such model; the message lists the near names.
        ModelRefused: there is one, but it must not be loaded.
    """
    by_name = {model.name: model for model in models}
    model = by_name.get(name)
    if model is None:
        near = difflib.get_close_matches(name, by_name, n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
        raise UnknownModel(
            f"There is no model {name!r}.{hint}", field="model", accepted=sorted(by_name)
        )
    if model.refusal is not None:
        raise ModelRefused(model.refusal, field="model")
    return model


def settle(request: GenerationRequest, model: ModelInfo, *, random_seed: int) -> Settings:
    """Fill what the request left out from the model's own defaults.

    A request that names one side only gets the other from the model's native aspect.

    Raises:
        InvalidRequest: the prompts name what no engine can follow, or a name is not known.
    """
    check_prompts(request.prompt, request.negative_prompt)
    defaults = model.defaults
    width, height = request.width, request.height
    if width is None and height is None:
        width, height = defaults.width, defaults.height
    elif width is None:
        assert height is not None
        width = max(8, round(height * defaults.width / defaults.height / 8) * 8)
    elif height is None:
        height = max(8, round(width * defaults.height / defaults.width / 8) * 8)
    render_width, render_height = nearest_size(model.sizes, width, height)
    steps, guidance = request.num_inference_steps, request.guidance_scale
    if request.sampler is not None:
        sampler, schedule = resolve_sampler(request.sampler, request.schedule)
    else:
        sampler, schedule = resolve_sampler(defaults.sampler)
        schedule = schedule if request.schedule is None else resolve_schedule(request.schedule)
    return Settings(
        model=model.name,
        width=width,
        height=height,
        render_width=render_width,
        render_height=render_height,
        num_inference_steps=defaults.num_inference_steps if steps is None else steps,
        guidance_scale=defaults.guidance_scale if guidance is None else float(guidance),
        sampler=sampler,
        seed=random_seed if request.seed is None else request.seed,
        schedule=schedule,
    )


def nearest_size(sizes: tuple[tuple[int, int], ...], width: int, height: int) -> tuple[int, int]:
    """The size the model draws at for a picture of ``width`` × ``height``: by aspect, then by area."""
    if not sizes or (width, height) in sizes:
        return width, height

    def distance(size: tuple[int, int]) -> tuple[float, float]:
        aspect = (size[0] / size[1]) / (width / height)
        area = (size[0] * size[1]) / (width * height)
        return max(aspect, 1 / aspect), max(area, 1 / area)

    return min(sizes, key=distance)


def unknown_words(model: ModelInfo, prompt: str) -> list[str]:
    """Words of ``prompt`` that the model has never seen, in order, each once."""
    if model.vocabulary is None:
        return []
    text = parse_prompt(prompt).words().casefold()
    words = re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", text)
    return [word for word in dict.fromkeys(words) if word not in model.vocabulary]


def notes_for(request: GenerationRequest, settings: Settings, model: ModelInfo) -> tuple[str, ...]:
    """What the caller should know before the picture comes."""
    notes = [
        *prompt_notes("prompt", request.prompt),
        *prompt_notes("negative prompt", request.negative_prompt),
    ]
    unknown = unknown_words(model, request.prompt)
    if unknown:
        notes.append(f"{model.name} does not know: {', '.join(unknown)}")
    if settings.resampled:
        notes.append(
            f"drawn at {settings.render_width}x{settings.render_height}, the nearest size "
            f"{model.name} knows, and resampled to {settings.width}x{settings.height}"
        )
    return tuple(notes)
