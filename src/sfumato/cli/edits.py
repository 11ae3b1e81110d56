"""Pictures, edits and other weights on the command line: read once, checked before any service
starts."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato.core.edits import Fill, Hires, Inpainting, Outpainting, Upscaling, Variation
from sfumato.core.errors import InvalidRequest
from sfumato.core.extras import Control, LoraUse
from sfumato.core.inputs import MAX_INPUT_BYTES, read_input
from sfumato.core.request import Determinism

#: The file that is standard input.
STDIN = "-"
_CONTROL = re.compile(
    r"(?P<model>[^=]+)=(?P<file>.+?)"
    r"(?::(?P<strength>\d*\.?\d+)(?::(?P<start>\d*\.?\d+)-(?P<end>\d*\.?\d+))?)?"
)
_SIDES = ("left", "right", "top", "bottom")


@dataclass(frozen=True, slots=True)
class EditFlags:
    """The options of ``sfumato generate`` beyond a picture from noise, as they were typed."""

    init_image: str | None = None
    strength: float | None = None
    mask: str | None = None
    mask_blur: int | None = None
    mask_padding: int | None = None
    fill: Fill | None = None
    only_masked: bool = False
    invert_mask: bool = False
    outpaint: str | None = None
    hires: float | None = None
    hires_upscaler: str | None = None
    hires_strength: float | None = None
    hires_steps: int | None = None
    upscale: str | None = None
    variation: str | None = None
    lora: tuple[str, ...] = ()
    control: tuple[str, ...] = ()
    vae: str | None = None
    determinism: Determinism | None = None

    def options(self) -> dict[str, Any]:
        """The request's fields, with pictures as the bytes of their files.

        Raises:
            InvalidRequest: an option can't be read, or needs another.
            OSError: a file can't be.
        """
        self._check_companions()
        files = _Files()
        given: dict[str, Any] = {
            "init_image": files.read(self.init_image),
            "strength": self.strength,
            "inpainting": self._inpainting(files),
            "outpainting": self._outpainting(),
            "hires": self._hires(),
            "upscaling": _named(self.upscale, "--upscale", name="upscaler", number="scale"),
            "variation": _variation(self.variation),
            "loras": [_named(each, "--lora", name="name", number="weight") for each in self.lora],
            "controls": [_control(each, files) for each in self.control],
            "vae": self.vae,
            "determinism": self.determinism,
        }
        return {name: value for name, value in given.items() if value is not None and value != []}

    def _check_companions(self) -> None:
        masked = (self.mask_blur, self.mask_padding, self.only_masked, self.invert_mask)
        second = (self.hires_upscaler, self.hires_strength, self.hires_steps)
        for main, companions, needed in (
            (self.mask, masked, "--mask FILE"),
            (self.mask or self.outpaint, (self.fill,), "--mask FILE or --outpaint SIDES"),
            (self.hires, second, "--hires SCALE"),
        ):
            if main is None and any(map(_is_said, companions)):
                raise InvalidRequest(
                    f"An option is given that needs {needed}.", field=needed, accepted=needed
                )

    def _inpainting(self, files: _Files) -> dict[str, Any] | None:
        if self.mask is None:
            return None
        given = {
            "mask": files.read(self.mask),
            "blur": self.mask_blur,
            "fill": self.fill,
            "only_masked": self.only_masked,
            "padding": self.mask_padding,
            "invert": self.invert_mask,
        }
        return _said(given)

    def _outpainting(self) -> dict[str, Any] | None:
        if self.outpaint is None:
            return None
        sides = {}
        for each in self.outpaint.split(","):
            side, _, pixels = each.strip().partition("=")
            if side not in _SIDES or not pixels.isascii() or not pixels.isdigit():
                raise InvalidRequest(
                    f"--outpaint has {each!r}.",
                    field="outpainting",
                    accepted="sides and pixels, as left=64,right=64",
                )
            sides[side] = int(pixels[:9])
        return _said({**sides, "fill": None if self.mask else self.fill})

    def _hires(self) -> dict[str, Any] | None:
        if self.hires is None:
            return None
        return _said(
            {
                "scale": self.hires,
                "upscaler": self.hires_upscaler,
                "strength": self.hires_strength,
                "num_inference_steps": self.hires_steps,
            }
        )


def checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """The same fields as the core has them. Raises ``InvalidRequest``, naming the one at fault."""
    core = dict(options)
    if "init_image" in core:
        core["init_image"] = read_input(core["init_image"], field="init_image")
    if "inpainting" in core:
        mask = read_input(core["inpainting"]["mask"], field="inpainting.mask")
        core["inpainting"] = Inpainting(**{**core["inpainting"], "mask": mask})
    kinds = (
        ("outpainting", Outpainting),
        ("hires", Hires),
        ("upscaling", Upscaling),
        ("variation", Variation),
    )
    for name, kind in kinds:
        if name in core:
            core[name] = kind(**core[name])
    core["loras"] = tuple(LoraUse(**lora) for lora in core.get("loras", ()))
    core["controls"] = tuple(
        Control(**{**control, "image": read_input(control["image"], field=f"controls.{n}.image")})
        for n, control in enumerate(core.get("controls", ()))
    )
    return core


class _Files:
    """Reads each file named; standard input once."""

    def __init__(self) -> None:
        self._stdin_read = False

    def read(self, name: str | None) -> bytes | None:
        """No more of a file than tells that it is too large. Raises ``OSError``."""
        if name is None:
            return None
        if name != STDIN:
            with Path(name).open("rb") as file:
                return file.read(MAX_INPUT_BYTES + 1)
        if self._stdin_read:
            raise InvalidRequest(
                "Two pictures are to come from standard input.",
                field="init_image",
                accepted="- for one picture alone",
            )
        self._stdin_read = True
        return sys.stdin.buffer.read(MAX_INPUT_BYTES + 1)


def _said(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if _is_said(value)}


def _is_said(value: object) -> bool:
    """0 is said, too."""
    return value is not None and value is not False


def _named(text: str | None, option: str, *, name: str, number: str) -> dict[str, Any] | None:
    """``NAME`` or ``NAME:NUMBER``."""
    if text is None:
        return None
    stem, colon, after = text.rpartition(":")
    value = _number(after) if colon else None
    stem = text if value is None else stem
    if not stem.strip():
        raise InvalidRequest(f"{option} is {text!r}.", field=option, accepted="NAME or NAME:NUMBER")
    return {name: stem} if value is None else {name: stem, number: value}


def _variation(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    seed, _, after = text.partition(":")
    strength = _number(after)
    if strength is None or not seed.isascii() or not seed.isdigit() or len(seed) > 20:
        raise InvalidRequest(
            f"--variation is {text!r}.", field="variation", accepted="SEED:STRENGTH, as 7:0.2"
        )
    return {"seed": int(seed), "strength": strength}


def _control(text: str, files: _Files) -> dict[str, Any]:
    found = _CONTROL.fullmatch(text)
    if found is None:
        raise InvalidRequest(
            f"--control is {text!r}.",
            field="controls",
            accepted="MODEL=FILE, MODEL=FILE:STRENGTH or MODEL=FILE:STRENGTH:START-END",
        )
    numbers = {name: found[name] for name in ("strength", "start", "end")}
    return {
        "model": found["model"],
        "image": files.read(found["file"]),
        **{name: float(text) for name, text in numbers.items() if text is not None},
    }


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def many(values: Iterable[str] | None) -> tuple[str, ...]:
    """What an option was given, that may come several times."""
    return tuple(values or ())
