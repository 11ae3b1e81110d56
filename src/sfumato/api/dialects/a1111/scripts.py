"""``alwayson_scripts``: ControlNet, whose units are our controls. Other scripts are refused by name.

The units are those of Mikubill's extension, as its API takes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from sfumato.api.body import checked
from sfumato.api.dialects.a1111.options import Loose
from sfumato.api.dialects.words import in_their_words
from sfumato.api.edits import Picture
from sfumato.api.fields import Name
from sfumato.core.errors import InvalidRequest

CONTROLNET = "controlnet"
#: Where errors say that a unit stands.
PLACE = "alwayson_scripts.ControlNet"
_NONE = frozenset(("", "none"))
_BALANCED = frozenset(("0", "balanced"))
_BOTH = frozenset(("0", "both", "hiresfixoption.both"))
#: The resize mode that crops, as pictures are cropped here; the others matter for other proportions.
_CROPS = frozenset(("1", "crop and resize", "scale to fit (inner fit)", "inner fit"))


class Unit(Loose):
    """One ControlNet. What only a preprocessor or less memory would need is without effect."""

    enabled: bool = Field(default=True, description="false: it is left out.")
    image: Any = Field(None, description="The picture to follow, already preprocessed.")
    input_image: Picture = Field(None, description="An older name of image.")
    model: Name = Field("None", description="As /controlnet/model_list names them.")
    module: Name = Field("none", description="none: there are no preprocessors here.")
    weight: float = Field(1.0, description="0 to 4.")
    guidance_start: float = Field(0.0, description="0 to 1.")
    guidance_end: float = Field(1.0, description="0 to 1.")
    guidance: float | None = Field(None, description="An older name of guidance_end.")
    resize_mode: int | str = Field(
        "Crop and Resize", description="Others need a picture of the result's proportions."
    )
    control_mode: int | str = Field("Balanced", description="Balanced.")
    hr_option: int | str = Field("Both", description="Both.")
    mask: Any = Field(None, description="null.")
    mask_image: Any = Field(None, description="null.")
    effective_region_mask: Any = Field(None, description="null.")
    pixel_perfect: bool = Field(default=False, description="Without effect.")
    low_vram: bool = Field(default=False, description="Without effect.")
    lowvram: bool = Field(default=False, description="Without effect.")
    processor_res: float | None = Field(None, description="Without effect.")
    threshold_a: float | None = Field(None, description="Without effect.")
    threshold_b: float | None = Field(None, description="Without effect.")
    save_detected_map: bool = Field(default=True, description="Without effect.")

    @property
    def picture(self) -> Any:
        """The picture in any of the forms that the extension takes; None: there is none."""
        given = self.image if self.image is not None else self.input_image
        nested = isinstance(given, dict) and "image" in given
        return (given["image"] if nested else given) or None

    @property
    def empty(self) -> bool:
        """Whether it asks for nothing, as pages send it that was never filled in."""
        named = {self.model.casefold(), self.module.casefold()}
        return named <= _NONE and self.picture is None

    @property
    def crops(self) -> bool:
        return str(self.resize_mode).casefold() in _CROPS

    def check(self, place: str) -> None:
        """Refuse what it can't do. Raises ``InvalidRequest``."""
        if self.model.casefold() in _NONE:
            raise InvalidRequest(
                f"{place}.model names no ControlNet.",
                field=f"{place}.model",
                accepted="a name from /controlnet/model_list",
            )
        nested = self.image if isinstance(self.image, dict) else {}
        masks = (self.mask, self.mask_image, self.effective_region_mask, nested.get("mask"))
        for name, value, neutral, accepted in (
            ("module", self.module, _NONE, "none: send the picture that a preprocessor made"),
            ("control_mode", self.control_mode, _BALANCED, "Balanced"),
            ("hr_option", self.hr_option, _BOTH, "Both"),
        ):
            if str(value).casefold() not in neutral:
                raise InvalidRequest(
                    f"{place}.{name} is {str(value)[:64]!r}, which can't be had here.",
                    field=f"{place}.{name}",
                    accepted=accepted,
                )
        if any(masks):
            raise InvalidRequest(
                f"{place}.mask: a ControlNet steers the whole picture.",
                field=f"{place}.mask",
                accepted="null",
            )


def units_of(scripts: Mapping[str, Any]) -> Iterator[tuple[str, Unit]]:
    """The ControlNet units that are switched on, each with its place for errors.

    Raises ``InvalidRequest``, naming a script that there is not, or a unit's field.
    """
    for name, script in scripts.items():
        if name.casefold() != CONTROLNET:
            raise InvalidRequest(
                f"There is no script {name[:64]!r}.",
                field=f"alwayson_scripts.{name[:64]}",
                accepted=["ControlNet"],
            )
        args = script.get("args", []) if isinstance(script, dict) else None
        if not isinstance(args, list) or not all(isinstance(unit, dict) for unit in args):
            raise InvalidRequest(
                f"{PLACE}.args must be a list of units.",
                field=f"{PLACE}.args",
                accepted="a list of JSON objects",
            )
        for number, given in enumerate(args):
            place = f"{PLACE}.args.{number}"
            with in_their_words(
                {field: f"{place}.{field}" for field in (*given, *Unit.model_fields)}
            ):
                unit = checked(Unit, given)
            if unit.enabled and not unit.empty:
                unit.check(place)
                yield place, unit
