"""What txt2img and img2img take: A1111's fields with its own defaults, those of Forge beside.

Fields that can't be followed here are listed with the values that ask for nothing; any other is
refused by name. Names that neither of the two knows are refused, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from sfumato.api.dialects.a1111.options import Loose, No, Options
from sfumato.api.edits import Picture
from sfumato.api.fields import Name
from sfumato.core.errors import InvalidRequest

_EFFECTLESS = "Taken, without effect."
_REFUSED = "Taken only where it asks for nothing."


def _effectless(default: Any = None) -> Any:
    return Field(default, description=_EFFECTLESS)


def _refused(default: Any = None) -> Any:
    return Field(default, description=_REFUSED)


class Drawing(Loose):
    """What both take. null means left out."""

    prompt: str = Field("", description="What to draw; <lora:name:weight> brings a LoRA along.")
    negative_prompt: str = Field("", description="What to steer away from.")
    seed: int = Field(-1, ge=-1, description="That of the first picture; -1: drawn at random.")
    subseed: int = Field(
        -1, ge=-1, description="That of the noise that is mixed in; -1: drawn at random."
    )
    subseed_strength: float = Field(0.0, description="How much of it: 0 to 1.")
    sampler_name: Name = Field("", description="As /sdapi/v1/samplers names them.")
    sampler_index: Name = Field("Euler", description="The older name of sampler_name.")
    scheduler: Name = Field("Automatic", description="As /sdapi/v1/schedulers names them.")
    batch_size: int = Field(1, ge=1, le=64, description="Times n_iter: 64 at most.")
    n_iter: int = Field(1, ge=1, le=64, description="Times batch_size: 64 at most.")
    steps: int = Field(50, description="Denoising steps: 1 to 150.")
    cfg_scale: float = Field(7.0, description="Guidance: 0 to 50.")
    width: int = Field(512, description="In pixels, a multiple of 8.")
    height: int = Field(512, description="In pixels, a multiple of 8.")
    clip_skip: int | None = Field(
        None, description="SD.Next's own, before CLIP_stop_at_last_layers: 1 to 12."
    )
    override_settings: Options = Field(
        default_factory=lambda: Options.model_validate({}),
        description="Options for this request alone.",
    )
    refiner_checkpoint: Name = Field("", description="A model for the last steps.")
    refiner_switch_at: float = Field(0.8, description="Where it takes over: above 0 to 1.")
    alwayson_scripts: dict[str, Any] = Field(
        default_factory=dict, description='{"ControlNet": {"args": [unit, …]}}; no other script.'
    )
    force_task_id: Name = Field("", description="The caller's own name for it, for progress.")
    send_images: bool = Field(default=True, description="Whether the answer holds the pictures.")

    save_images: bool = _effectless(default=False)
    do_not_save_samples: bool = _effectless(default=False)
    do_not_save_grid: bool = _effectless(default=False)
    override_settings_restore_afterwards: bool = _effectless(default=True)
    s_tmin: float | None = _effectless()
    s_tmax: float | None = _effectless()
    image_cfg_scale: float | None = _effectless()
    distilled_cfg_scale: float | None = _effectless()
    hr_distilled_cfg: float | None = _effectless()
    script_args: list[Any] = Field(default_factory=list, description=_EFFECTLESS)
    comments: dict[str, Any] | None = _effectless()

    styles: list[Name] = Field(default_factory=list, description=_REFUSED)
    restore_faces: bool = _refused(default=False)
    tiling: bool = _refused(default=False)
    eta: float | None = Field(None, description="1 for ancestral samplers, 0 for DDIM: their own.")
    s_churn: float = _refused(0.0)
    s_noise: float = Field(1.0, description="1, where the sampler adds noise.")
    s_min_uncond: float = _refused(0.0)
    seed_resize_from_h: int = _refused(-1)
    seed_resize_from_w: int = _refused(-1)
    script_name: Name = _refused("")
    disable_extra_networks: bool = _refused(default=False)
    infotext: str = _refused("")


class Txt2Img(Drawing):
    """A picture from noise."""

    enable_hr: bool = Field(default=False, description="Enlarge, and draw over it.")
    denoising_strength: float = Field(0.75, description="Of that second pass: above 0 to 1.")
    hr_scale: float = Field(2.0, description="How much larger: 1 to 8.")
    hr_resize_x: int = Field(0, ge=0, description="Or how wide; 0: by hr_scale.")
    hr_resize_y: int = Field(0, ge=0, description="Or how high; 0: by hr_scale.")
    hr_upscaler: Name = Field("Latent", description="Latent, or one of /sdapi/v1/upscalers.")
    hr_second_pass_steps: int = Field(0, ge=0, description="0: as many as the first.")
    hr_sampler_name: Name = Field("", description="That of the first pass.")
    hr_scheduler: Name = Field("", description="That of the first pass.")
    hr_prompt: str = Field("", description="That of the first pass.")
    hr_negative_prompt: str = Field("", description="That of the first pass.")
    hr_cfg: float | None = Field(None, description="That of the first pass.")
    hr_checkpoint_name: Name = _refused("")
    hr_additional_modules: list[str] = Field(default_factory=list, description=_REFUSED)
    firstphase_width: int = _refused(0)
    firstphase_height: int = _refused(0)
    firstpass_image: str = _refused("")


class Img2Img(Drawing):
    """A picture from another, or a part of it anew."""

    init_images: list[Picture] | None = Field(
        None, description="One picture, in base64 or as data URL."
    )
    resize_mode: int = Field(
        0, ge=0, le=3, description="0 to 3. Other proportions are cropped to: mode 1 alone."
    )
    denoising_strength: float = Field(0.75, description="How much is drawn anew: above 0 to 1.")
    mask: Picture = Field(None, description="White is redrawn; of the picture's size.")
    mask_blur: int | None = Field(None, description="Pixels: 0 to 256; null: mask_blur_x.")
    mask_blur_x: int = Field(4, description="As mask_blur_y.")
    mask_blur_y: int = Field(4, description="As mask_blur_x.")
    mask_round: bool = _effectless(default=True)
    inpainting_fill: int = Field(
        0, ge=0, le=3, description="0 fill, 1 original, 2 latent noise, 3 latent nothing."
    )
    inpaint_full_res: bool = Field(default=True, description="Draw around the mask alone.")
    inpaint_full_res_padding: int = Field(0, description="Pixels around it: 0 to 512.")
    inpainting_mask_invert: int = Field(0, ge=0, le=1, description="1: black is redrawn.")
    include_init_images: bool = Field(default=False, description="Whether to send them back.")
    enable_hr: No = _refused(default=False)
    initial_noise_multiplier: float = _refused(1.0)
    latent_mask: str = _refused("")


#: Field -> the values that ask for nothing, and why any other is refused.
_NEUTRAL: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "restore_faces": ((False,), "faces are not restored here"),
    "tiling": ((False,), "pictures that tile are not drawn here"),
    "s_churn": ((0,), "samplers add no noise beyond their own"),
    "s_min_uncond": ((0,), "guidance is never left out of a step"),
    "seed_resize_from_h": ((0, -1), "noise of another size is not drawn"),
    "seed_resize_from_w": ((0, -1), "noise of another size is not drawn"),
    "script_name": (("", "None"), "there are no scripts but ControlNet, in alwayson_scripts"),
    "disable_extra_networks": ((False,), "leave LoRAs out of the prompt instead"),
    "infotext": (("",), "send its values as the request's own fields"),
    "hr_checkpoint_name": (("", "Use same checkpoint"), "both passes are drawn by one model"),
    "firstphase_width": ((0,), "width is the first pass's; enlarge by hr_scale"),
    "firstphase_height": ((0,), "height is the first pass's; enlarge by hr_scale"),
    "firstpass_image": (("",), "begin with a picture by img2img"),
    "initial_noise_multiplier": ((1,), "noise is not scaled"),
    "latent_mask": (("",), "send a mask"),
}
#: Of the second pass, what would have to be another's than the first's.
_SAME = {
    "hr_sampler_name": ("sampler_name", ("", "Use same sampler")),
    "hr_scheduler": ("scheduler", ("", "Use same scheduler")),
    "hr_prompt": ("prompt", ("",)),
    "hr_negative_prompt": ("negative_prompt", ("",)),
    "hr_cfg": ("cfg_scale", (None,)),
}
#: Forge's word for the first pass's own.
_SAME_MODULES = "Use same choices"
#: Samplers whose noise eta would scale, and the eta that they draw with.
_ETA = {"euler_a": 1, "dpm2_a": 1, "dpmpp_2s_a": 1, "dpmpp_sde": 1, "dpmpp_2m_sde": 1}
_ETA |= {"dpmpp_3m_sde": 1, "ddim": 0}


def check(body: Drawing, sampler: str) -> None:
    """Refuse what can't be followed. Raises ``InvalidRequest``, naming the field.

    Args:
        sampler: the canonical name of the one that draws.
    """
    for name, (neutral, why) in _NEUTRAL.items():
        value = getattr(body, name, neutral[0])
        if value not in neutral:
            raise _refusal(name, value, why, str(neutral[0]).lower() or "nothing")
    for name in ("styles", "hr_additional_modules"):
        found = [each for each in getattr(body, name, ()) if each != _SAME_MODULES]
        if found:
            raise _refusal(name, found[0], "there are none here", "an empty list")
    if _ETA.get(sampler) and body.s_noise != 1:
        raise _refusal("s_noise", body.s_noise, "samplers' noise is not scaled", "1")
    if body.eta is not None and body.eta != _ETA.get(sampler, body.eta):
        why = f"{sampler} draws with its own noise"
        raise _refusal("eta", body.eta, why, str(_ETA[sampler]))
    if isinstance(body, Txt2Img) and body.enable_hr:
        for name, (first, neutral) in _SAME.items():
            value = getattr(body, name)
            if value not in (*neutral, getattr(body, first)):
                raise _refusal(name, value, f"the second pass has the {first} of the first", first)


def _refusal(name: str, value: Any, why: str, accepted: str) -> InvalidRequest:
    shown = str(value).lower() if isinstance(value, int | float) else repr(value[:64])
    return InvalidRequest(f"{name} is {shown}: {why}.", field=name, accepted=accepted)
