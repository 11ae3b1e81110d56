"""What there is: models, samplers, upscalers and the like, in A1111's forms. No path is told."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from sfumato.api.context import ApiContext, Context
from sfumato.api.dialects.a1111.names import SHORT_HASH, digest_of, title_of
from sfumato.api.dialects.a1111.options import MyOptions, model_now
from sfumato.core.finding import fits
from sfumato.core.models import ModelInfo, ModelKind
from sfumato.core.samplers import SAMPLERS, SCHEDULES

#: How many numbers an embedding's words have, by the family that it is for; of SDXL's two encoders
#: the sum, as A1111 counts.
_WORD_WIDTHS = {"sd1": 768, "sd2": 1024, "sdxl": 2048}
#: Digits of a hash behind a ControlNet's name, as its extension shows them.
_CONTROL_DIGITS = 8

router = APIRouter(tags=["dialects"])


class Item(BaseModel):
    """One of a list. ``model_`` begins names of A1111's."""

    model_config = ConfigDict(protected_namespaces=())


class ModelItem(Item):
    title: str
    model_name: str
    hash: str | None
    sha256: str | None
    filename: str
    config: str | None = None


class VaeItem(Item):
    model_name: str
    filename: str


class SamplerItem(Item):
    name: str
    aliases: list[str]
    options: dict[str, Any]


class ScheduleItem(Item):
    name: str
    label: str
    aliases: list[str] | None
    default_rho: float | None = -1.0
    need_inner_model: bool | None = False


class UpscalerItem(Item):
    name: str
    model_name: str | None = None
    model_path: str | None = None
    model_url: str | None = None
    scale: float | None = None


class Named(Item):
    name: str


class LoraItem(Item):
    name: str
    alias: str
    path: str
    metadata: dict[str, Any]


class EmbeddingItem(Item):
    """``shape`` and ``vectors``: 0 where that is not known."""

    step: int | None = None
    sd_checkpoint: str | None = None
    sd_checkpoint_name: str | None = None
    shape: int = 0
    vectors: int = 0


class Embeddings(Item):
    """``loaded``: those that fit the caller's model; ``skipped``: the others."""

    loaded: dict[str, EmbeddingItem]
    skipped: dict[str, EmbeddingItem]


class ControlModels(Item):
    model_list: list[str]


class ControlModules(Item):
    module_list: list[str]
    module_detail: dict[str, Any]


class ControlVersion(Item):
    version: int


@router.get("/sdapi/v1/sd-models")
async def sd_models(context: Context) -> list[ModelItem]:
    """The models that draw."""
    return [
        ModelItem(
            title=title_of(model),
            model_name=model.name,
            hash=digest_of(model)[:SHORT_HASH] or None,
            sha256=digest_of(model) or None,
            filename=model.name,
        )
        for model in _usable(context, ModelKind.BASE)
    ]


@router.get("/sdapi/v1/sd-vae")
async def sd_vae(context: Context) -> list[VaeItem]:
    """The VAEs that can stand in for a model's own."""
    found = _usable(context, ModelKind.VAE)
    return [VaeItem(model_name=model.name, filename=model.name) for model in found]


@router.get("/sdapi/v1/samplers")
async def samplers(_context: Context) -> list[SamplerItem]:
    """The samplers, by A1111's labels; every alias is understood."""
    return [
        SamplerItem(name=label, aliases=[name, *others], options={})
        for name, (label, *others) in SAMPLERS.items()
    ]


@router.get("/sdapi/v1/schedulers")
async def schedulers(_context: Context) -> list[ScheduleItem]:
    """The schedules; Automatic is the sampler's own custom."""
    return [
        ScheduleItem(name="automatic", label="Automatic", aliases=None),
        *(
            ScheduleItem(name=name, label=label, aliases=others or None)
            for name, (label, *others) in SCHEDULES.items()
        ),
    ]


@router.get("/sdapi/v1/upscalers")
async def upscalers(context: Context) -> list[UpscalerItem]:
    """The upscalers for finished pictures and for hires."""
    found = _usable(context, ModelKind.UPSCALER)
    return [
        UpscalerItem(name="None"),
        *(UpscalerItem(name=model.name, model_name=model.name) for model in found),
    ]


@router.get("/sdapi/v1/latent-upscale-modes")
async def latent_upscale_modes(_context: Context) -> list[Named]:
    """What enlarges latents for hires."""
    return [Named(name="Latent")]


@router.get("/sdapi/v1/loras")
async def loras(context: Context) -> list[LoraItem]:
    """The LoRAs, as ``<lora:name:weight>`` names them."""
    return [
        LoraItem(name=model.name, alias=model.title or model.name, path=model.name, metadata={})
        for model in _usable(context, ModelKind.LORA)
    ]


@router.get("/sdapi/v1/embeddings")
async def embeddings(context: Context, mine: MyOptions) -> Embeddings:
    """The words that are learned beside the models' own."""
    base = model_now(context, mine.now())
    found: tuple[dict[str, EmbeddingItem], dict[str, EmbeddingItem]] = ({}, {})
    for model in _usable(context, ModelKind.EMBEDDING):
        item = EmbeddingItem(shape=_WORD_WIDTHS.get(model.family, 0))
        found[base is None or not fits(model, base)][model.name] = item
    return Embeddings(loaded=found[0], skipped=found[1])


@router.get("/sdapi/v1/hypernetworks")
@router.get("/sdapi/v1/face-restorers")
@router.get("/sdapi/v1/realesrgan-models")
@router.get("/sdapi/v1/prompt-styles")
@router.get("/sdapi/v1/extensions")
async def nothing(_context: Context) -> list[dict[str, Any]]:
    """There are none here."""
    return []


@router.get("/controlnet/model_list")
async def controlnet_models(context: Context) -> ControlModels:
    """The ControlNets, as their extension lists them."""
    return ControlModels(
        model_list=[_shown(each) for each in _usable(context, ModelKind.CONTROLNET)]
    )


@router.get("/controlnet/module_list")
async def controlnet_modules(_context: Context) -> ControlModules:
    """No preprocessor: pictures come preprocessed."""
    return ControlModules(module_list=["none"], module_detail={"none": {"sliders": []}})


@router.get("/controlnet/version")
async def controlnet_version(_context: Context) -> ControlVersion:
    """That of the extension's API whose units are understood."""
    return ControlVersion(version=3)


def _usable(context: ApiContext, kind: ModelKind) -> list[ModelInfo]:
    return [
        model for model in context.catalog.list() if model.kind is kind and model.refusal is None
    ]


def _shown(model: ModelInfo) -> str:
    digest = digest_of(model)
    return f"{model.name} [{digest[:_CONTROL_DIGITS]}]" if digest else model.name
