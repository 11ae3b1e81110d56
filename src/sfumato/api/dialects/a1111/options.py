"""Options: what A1111 keeps for everybody, here kept for each caller apart.

A ``POST`` changes the later requests of whoever sent it; ``override_settings`` changes one request.
They live in this process: a restart forgets them, and a replica does not know another's.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import AfterValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from sfumato.api.body import openapi_body, read_json
from sfumato.api.context import ApiContext, Context
from sfumato.api.dialects.a1111.names import digest_of, name_of, title_of
from sfumato.api.dialects.words import in_their_words
from sfumato.api.edits import Part
from sfumato.api.fields import MAX_NAME, Name
from sfumato.core.errors import InvalidRequest
from sfumato.core.models import ModelInfo, ModelKind
from sfumato.core.request import MAX_CLIP_SKIP, MIN_CLIP_SKIP, OutputFormat
from sfumato.services.models import find_model

#: Callers whose options are kept; of more, those who have been away longest start anew.
MAX_CALLERS = 1000
#: A1111's words for the model's own VAE.
_OWN_VAE = frozenset(("", "automatic", "none"))
_FORMATS = {
    "png": OutputFormat.PNG,
    "jpg": OutputFormat.JPEG,
    "jpeg": OutputFormat.JPEG,
    "webp": OutputFormat.WEBP,
}

router = APIRouter(tags=["dialects"])


class Loose(Part):
    """As FastAPI reads a body of A1111's: a number may come as text. Unknown names are refused."""

    model_config = ConfigDict(strict=False, allow_inf_nan=False)


def _only(wanted: float) -> Any:
    """A validator for an option that has but one value here."""

    def check(value: float) -> float:
        if value != wanted:
            only = str(wanted).lower()
            raise PydanticCustomError("only", "only {only} can be had here", {"only": only})
        return value

    return AfterValidator(check)


#: A title is a name and some digits of a hash.
Title = Annotated[str, Field(max_length=2 * MAX_NAME)]
No = Annotated[bool, _only(wanted=False)]
Yes = Annotated[bool, _only(wanted=True)]


class Options(Loose):
    """The options that there are. Some have one value, and some are kept without any effect."""

    sd_model_checkpoint: Title = Field("", description="A model, by name, title or hash.")
    sd_checkpoint_hash: Name = Field("", description="Told; what is sent is not looked at.")
    sd_vae: Name = Field("Automatic", description="A VAE; Automatic and None: the model's own.")
    CLIP_stop_at_last_layers: int = Field(
        MIN_CLIP_SKIP, ge=MIN_CLIP_SKIP, le=MAX_CLIP_SKIP, description="Clip skip: 1 to 12."
    )
    samples_format: Literal["png", "jpg", "jpeg", "webp"] = Field(
        "png", description="Of the pictures in an answer: png, jpg or webp."
    )
    jpeg_quality: int = Field(80, ge=1, le=100, description="Of JPEG and WebP: 1 to 100.")
    live_previews_enable: bool = Field(
        default=True, description="Whether progress shows a preview."
    )
    # Nothing depends on these here.
    show_progress_every_n_steps: int = Field(10, description="Without effect.")
    samples_save: bool = Field(default=True, description="Without effect: jobs are always kept.")
    grid_save: bool = Field(default=False, description="Without effect: there are no grids.")
    save_images_before_highres_fix: bool = Field(default=False, description="Without effect.")
    face_restoration_model: Annotated[str, Field(max_length=MAX_NAME)] | None = Field(
        None, description="Without effect: there is none."
    )
    # These would change pictures or answers in ways that are not to be had here.
    return_grid: No = Field(default=False, description="Only false: there are no grids.")
    enable_pnginfo: Yes = Field(default=True, description="Only true: pictures keep their recipe.")
    face_restoration: No = Field(default=False, description="Only false.")
    img2img_color_correction: No = Field(default=False, description="Only false.")
    img2img_fix_steps: No = Field(default=False, description="Only false.")
    eta_noise_seed_delta: Annotated[int, _only(0)] = Field(0, description="Only 0.")
    initial_noise_multiplier: Annotated[float, _only(1)] = Field(1.0, description="Only 1.")
    forge_additional_modules: Annotated[list[str], Field(max_length=0)] = Field(
        default_factory=list, description="Only []: name a VAE as sd_vae."
    )
    token_merging_ratio: Annotated[float, _only(0)] = Field(0.0, description="Only 0.")

    def given(self) -> dict[str, Any]:
        """What was set, and nothing else."""
        return self.model_dump(exclude_unset=True)

    def over(self, kept: dict[str, Any]) -> Options:
        """These, and where one was not set, what was kept."""
        return Options.model_validate({**kept, **self.given()})

    def model(self, context: ApiContext) -> str | None:
        """The catalogue's name; None: its default model."""
        text = self.sd_model_checkpoint
        return name_of(text, ModelKind.BASE, context.catalog.list()) if text else None

    def vae(self, context: ApiContext) -> str | None:
        """The catalogue's name; None: the model's own."""
        if self.sd_vae.casefold() in _OWN_VAE:
            return None
        return name_of(self.sd_vae, ModelKind.VAE, context.catalog.list())

    @property
    def output_format(self) -> OutputFormat:
        return _FORMATS[self.samples_format]

    @property
    def output_quality(self) -> int | None:
        return None if self.output_format is OutputFormat.PNG else self.jpeg_quality


class KeptOptions:
    """What the callers of this process have set, each for himself."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def of(self, caller: str) -> dict[str, Any]:
        if caller in self._of:
            self._of.move_to_end(caller)
        return dict(self._of.get(caller, {}))

    def change(self, caller: str, given: dict[str, Any]) -> None:
        self._of[caller] = {**self._of.pop(caller, {}), **given}
        if len(self._of) > MAX_CALLERS:
            self._of.popitem(last=False)


class Mine:
    """The options of the caller of one request."""

    def __init__(self, kept: KeptOptions, caller: str) -> None:
        self._kept = kept
        self._caller = caller

    def now(self, override: Options | None = None) -> Options:
        """What holds for a request of his."""
        return (override or Options.model_validate({})).over(self._kept.of(self._caller))

    def change(self, options: Options) -> None:
        self._kept.change(self._caller, options.given())


async def _mine(request: Request, context: Context) -> Mine:
    """By his key; where none is asked for, by where he calls from."""
    state = request.app.state
    if not hasattr(state, "a1111_options"):
        state.a1111_options = KeptOptions()
    address = "" if request.client is None else request.client.host
    key = context.caller.id
    return Mine(state.a1111_options, f"address {address}" if key is None else f"key {key}")


MyOptions = Annotated[Mine, Depends(_mine)]


def model_now(context: ApiContext, options: Options) -> ModelInfo | None:
    """The model that a request would be drawn with; None: there is none that may be."""
    try:
        return context.catalog.get(options.model(context))
    except InvalidRequest:
        return None


@router.get("/sdapi/v1/options")
async def get_options(context: Context, mine: MyOptions) -> Options:
    """The caller's options."""
    now = mine.now()
    model = model_now(context, now)
    if model is None:
        return now
    told = {"sd_model_checkpoint": title_of(model), "sd_checkpoint_hash": digest_of(model)}
    return now.model_copy(update=told)


@router.post("/sdapi/v1/options", openapi_extra=openapi_body(Options))
async def set_options(context: Context, mine: MyOptions, request: Request) -> None:
    """Change the caller's options; nobody else's."""
    options = await read_json(request, Options)
    if name := options.model(context):
        with in_their_words({"model": "sd_model_checkpoint"}):
            await find_model(context.catalog, name)
    if name := options.vae(context):
        with in_their_words({"model": "sd_vae"}):
            context.catalog.get(name, ModelKind.VAE)
    mine.change(options)
