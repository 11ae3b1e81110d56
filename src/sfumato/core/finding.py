"""Which of the catalogue's weights a request needs: its model, and others beside it.

What a field or ``<lora:…>`` names must be there and fit. An embedding is named by a mere word of a
prompt, which stays a word where there is no embedding to read for it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sfumato.core.edits import LATENT_UPSCALER
from sfumato.core.errors import InvalidRequest, ModelRefused, UnknownModel
from sfumato.core.extras import wanted_loras
from sfumato.core.kinds import DIFFUSION_TRANSFORMER
from sfumato.core.models import ModelInfo, ModelKind
from sfumato.core.prompts import parse_negative, parse_prompt
from sfumato.core.request import GenerationRequest

#: What people call a kind and a family.
KIND_WORDS: Mapping[ModelKind, str] = {
    ModelKind.BASE: "model",
    ModelKind.LORA: "LoRA",
    ModelKind.EMBEDDING: "embedding",
    ModelKind.CONTROLNET: "ControlNet",
    ModelKind.VAE: "VAE",
    ModelKind.UPSCALER: "upscaler",
    ModelKind.SAFETY: "safety checker",
}
_FAMILY_WORDS = {
    "sd1": "SD 1",
    "sd2": "SD 2",
    "sdxl": "SDXL",
    "sdxl_refiner": "SDXL's refiner",
    DIFFUSION_TRANSFORMER: "a diffusion transformer, as FLUX",
}
#: The kinds that fit the base models of their own family alone; a base model as their refiner.
_BOUND = frozenset(ModelKind) - {ModelKind.UPSCALER, ModelKind.SAFETY}
#: A base model of which no more is known than that it is Stable Diffusion.
_ANY_FAMILY = frozenset(("", "sd"))
#: SD 2 draws in the latents of SD 1, and SDXL's refiner in SDXL's.
_SAME_LATENTS = (frozenset(("sd1", "sd2")), frozenset(("sdxl", "sdxl_refiner")))
_MOST_NAMES = 100


@dataclass(frozen=True, slots=True)
class _Wanted:
    kind: ModelKind
    name: str
    field: str


def choose_model(
    models: Iterable[ModelInfo],
    name: str,
    kind: ModelKind = ModelKind.BASE,
    *,
    field: str = "model",
) -> ModelInfo:
    """The model of that name and kind.

    Args:
        field: what named it, for the error.

    Raises:
        UnknownModel: no such model; the message lists the near names.
        ModelRefused: there is one, but it must not be loaded.
    """
    by_name: dict[str, ModelInfo] = {}
    others = []
    for each in models:
        if each.kind is kind:
            by_name[each.name] = each
        elif each.name == name:
            others.append(KIND_WORDS[each.kind])
    model = by_name.get(name)
    if model is None:
        near = _near(name, by_name.values())
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        if others:
            hint = f" It is the name of another kind: {', '.join(others)}."
        raise UnknownModel(
            f"There is no {KIND_WORDS[kind]} {name!r}.{hint}",
            field=field,
            accepted=_names(by_name.values()),
        )
    if model.refusal is not None:
        raise ModelRefused(model.refusal, field=field)
    return model


def find_extras(
    request: GenerationRequest,
    base: ModelInfo,
    models: Iterable[ModelInfo],
    *,
    safety: str | None = None,
) -> tuple[ModelInfo, ...]:
    """Every LoRA, ControlNet, VAE, upscaler, refiner and safety checker that is named, each once,
    and the embeddings that are words of a prompt.

    Args:
        base: the model that draws.
        models: the catalogue.
        safety: name of the operator's safety checker.

    Raises:
        UnknownModel: there is none of that name; the message lists the near names.
        ModelRefused: there is one, but it must not be loaded.
        InvalidRequest: it is for base models of another family.
    """
    by_kind: dict[ModelKind, dict[str, ModelInfo]] = {kind: {} for kind in ModelKind}
    for model in models:
        by_kind[model.kind][model.name] = model
    found: dict[tuple[ModelKind, str], ModelInfo] = {}
    for wanted in _wanted(request, safety):
        model = choose_model(
            by_kind[wanted.kind].values(), wanted.name, wanted.kind, field=wanted.field
        )
        if not fits(model, base):
            refines = model.kind is ModelKind.BASE
            kind = "refiner" if refines else KIND_WORDS[model.kind]
            raise InvalidRequest(
                f"The {kind} {model.name!r} is {'' if refines else 'for '}"
                f"{_family_words(model)}, but {base.name} is {_family_words(base)}.",
                field=wanted.field,
                accepted=_names(
                    other
                    for other in by_kind[wanted.kind].values()
                    if other.refusal is None and fits(other, base)
                ),
            )
        found[model.kind, model.name] = model
    for model in _mentioned(request, by_kind[ModelKind.EMBEDDING].values()):
        if model.refusal is None and fits(model, base):
            found[model.kind, model.name] = model
    return tuple(found.values())


def embedding_notes(
    request: GenerationRequest, base: ModelInfo, models: Iterable[ModelInfo]
) -> Iterator[str]:
    """What the caller should know of embeddings whose names are mere words in this picture."""
    embeddings = (model for model in models if model.kind is ModelKind.EMBEDDING)
    for model in _mentioned(request, embeddings):
        if model.refusal is not None:
            yield f"{model.name} is read as a word: {model.refusal}"
        elif not fits(model, base):
            yield (
                f"{model.name} is read as a word: the embedding of that name is for "
                f"{_family_words(model)}, but {base.name} is {_family_words(base)}"
            )


def taught_words(
    request: GenerationRequest, base: ModelInfo, models: Iterable[ModelInfo]
) -> frozenset[str]:
    """Words, lower case, that the base model knows by LoRAs and embeddings of the request."""
    models = list(models)
    named = {use.name for use in wanted_loras(request)}
    loras = (model for model in models if model.kind is ModelKind.LORA and model.name in named)
    embeddings = (model for model in models if model.kind is ModelKind.EMBEDDING)
    words = {word for model in loras for word in model.vocabulary or ()}
    words |= {
        model.name.casefold()
        for model in _mentioned(request, embeddings)
        if model.refusal is None and fits(model, base)
    }
    return frozenset(words)


def fits(model: ModelInfo, base: ModelInfo) -> bool:
    """Whether weights may be used with a base model, as far as their families are known.

    VAEs and refiners fit whatever draws in the same latents.
    """
    if model.kind not in _BOUND or {model.family, base.family} & _ANY_FAMILY:
        return True
    families = {model.family, base.family}
    of_latents = model.kind in (ModelKind.VAE, ModelKind.BASE)
    return len(families) == 1 or (of_latents and any(families <= same for same in _SAME_LATENTS))


def _wanted(request: GenerationRequest, safety: str | None) -> Iterator[_Wanted]:
    beside = {use.name for use in request.loras}
    for use in wanted_loras(request):
        yield _Wanted(ModelKind.LORA, use.name, "loras" if use.name in beside else "prompt")
    for control in request.controls:
        yield _Wanted(ModelKind.CONTROLNET, control.model, "controls")
    if request.vae is not None:
        yield _Wanted(ModelKind.VAE, request.vae, "vae")
    if request.hires is not None and request.hires.upscaler != LATENT_UPSCALER:
        yield _Wanted(ModelKind.UPSCALER, request.hires.upscaler, "hires.upscaler")
    if request.upscaling is not None:
        yield _Wanted(ModelKind.UPSCALER, request.upscaling.upscaler, "upscaling.upscaler")
    if request.refiner is not None:
        yield _Wanted(ModelKind.BASE, request.refiner.model, "refiner.model")
    if safety is not None:
        yield _Wanted(ModelKind.SAFETY, safety, "safety")


def _near(name: str, models: Iterable[ModelInfo]) -> Sequence[str]:
    """Names like it; first of all that of a model with this very title, as A1111's pages write
    what a LoRA's author called it in place of its file."""
    models = list(models)
    titled = [model.name for model in models if model.title == name]
    folded = {model.name.casefold(): model.name for model in models}
    close = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)
    return list(dict.fromkeys((*titled, *(folded[other] for other in close))))[:3]


def _mentioned(request: GenerationRequest, embeddings: Iterable[ModelInfo]) -> Iterator[ModelInfo]:
    """The embeddings whose names stand in a prompt, in any case of letters, as words."""
    prompt = parse_prompt(request.prompt).words()
    negative = parse_negative(request.negative_prompt).every_word()
    text = f"{prompt}\n{negative}".casefold()
    for model in embeddings:
        name = model.name.casefold()
        if name in text and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text):
            yield model


def _family_words(model: ModelInfo) -> str:
    return _FAMILY_WORDS.get(model.family, model.family)


def _names(models: Iterable[ModelInfo]) -> list[str]:
    """So many as an answer may hold."""
    return sorted(model.name for model in models)[:_MOST_NAMES]
