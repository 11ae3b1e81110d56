"""What is known of a model without loading it, and how a request is settled on one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from sfumato.core.job import Settings
from sfumato.core.layout import SAFETY_CHECKER
from sfumato.core.prompts import check_prompts, parse_prompt, prompt_notes
from sfumato.core.request import Determinism, GenerationRequest
from sfumato.core.samplers import resolve_sampler, resolve_schedule
from sfumato.core.sizes import check_edits, delivered_size, drawn_size, size_notes


class ModelKind(StrEnum):
    """What weights are for. Names are unique within a kind."""

    BASE = "base"  #: draws pictures by itself; what a request's ``model`` names
    LORA = "lora"  #: LoRA, LoHa, LoKr and the like: small changes to a base model's layers
    EMBEDDING = "embedding"  #: textual inversion: a word that its text encoder learns
    CONTROLNET = "controlnet"
    VAE = "vae"
    UPSCALER = "upscaler"
    SAFETY = "safety"  #: tells pictures that should not be shown


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
        vocabulary: every word it knows, lower case, of a LoRA those that it was trained with; None: no
            such list.
        attribution: whose work it was made from and under which licences, a line each.
        refusal: why it must not be loaded (a pickle, say); None when it may.
        memory_bytes: what a worker needs for one picture, see :func:`memory_needed`; 0: unknown.
        files: what the engine reads of it; of a checkpoint, that file first.
        source: the folder in the models' bucket that ``files`` lie in; empty on disk.
        kind: what it is for. ``family`` is then that of the base models that it fits; empty: any,
            or not known.
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
    kind: ModelKind = ModelKind.BASE
    attribution: tuple[str, ...] = ()

    @property
    def carries_checker(self) -> bool:
        """Whether a safety checker lies in its folder."""
        weights = (file.path for file in self.files if file.path.endswith(".safetensors"))
        return any(path.startswith(f"{SAFETY_CHECKER}/") for path in weights)

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
LIBRARY_BYTES = 512 << 20


def memory_needed(weights: int, defaults: ModelDefaults, family: str = "") -> int:
    """Bytes that a worker needs for one picture of the model's own size, in half precision.

    An estimate: 2 bytes a weight, 3 KiB a pixel, of SDXL, whose VAE needs single precision, twice
    that, and 0.5 GiB for the GPU's libraries. A CPU computes in single precision and needs about
    twice as much.

    Args:
        weights: how many numbers the networks have.
    """
    working = decode_bytes(defaults.width * defaults.height, family)
    return weights * _WEIGHT_BYTES + working + LIBRARY_BYTES


def decode_bytes(pixels: int, family: str) -> int:
    """What the VAE needs beside its weights to decode so many pixels at once, by the same estimate."""
    return pixels * _WORKING_BYTES_PER_PIXEL * (2 if family.startswith("sdxl") else 1)


def settle(
    request: GenerationRequest,
    model: ModelInfo,
    *,
    random_seed: int,
    determinism: Determinism = Determinism.FAST,
) -> Settings:
    """Fill what the request left out from the model's own defaults.

    Sizes are those of :mod:`sfumato.core.sizes`.

    Args:
        determinism: the operator's choice.

    Raises:
        InvalidRequest: the prompts name what no engine can follow, or a name is not known.
    """
    check_prompts(request.prompt, request.negative_prompt)
    defaults = model.defaults
    check_edits(request)
    native = defaults.width, defaults.height
    width, height = delivered_size(request, native)
    render_width, render_height = drawn_size(request, native, model.sizes)
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
        strength=_strength(request),
        determinism=request.determinism or determinism,
    )


def _strength(request: GenerationRequest) -> float | None:
    if request.init_image is None or request.strength is not None:
        return request.strength
    return 0.75 if (request.inpainting or request.outpainting) is None else 1.0


def unknown_words(model: ModelInfo, prompt: str) -> list[str]:
    """Words of ``prompt`` that the model has never seen, in order, each once."""
    if model.vocabulary is None:
        return []
    text = parse_prompt(prompt).words().casefold()
    words = re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", text)
    return [word for word in dict.fromkeys(words) if word not in model.vocabulary]


def notes_for(
    request: GenerationRequest,
    settings: Settings,
    model: ModelInfo,
    *,
    taught: Collection[str] = (),
) -> tuple[str, ...]:
    """What the caller should know before the picture comes.

    Args:
        taught: words, lower case, that the model knows by what is used beside it.
    """
    notes = [
        *prompt_notes("prompt", request.prompt),
        *prompt_notes("negative prompt", request.negative_prompt),
    ]
    unknown = [word for word in unknown_words(model, request.prompt) if word not in taught]
    if unknown:
        notes.append(f"{model.name} does not know: {', '.join(unknown)}")
    drawn = settings.render_width, settings.render_height
    native = model.defaults.width, model.defaults.height
    notes += size_notes(request, drawn, native, model.name if model.sizes else None)
    return tuple(notes)
