"""Weights that a request uses beside its model: LoRAs, ControlNets, a VAE, an upscaler …

The request names them; the catalogue knows them as :class:`~sfumato.core.models.ModelInfo` of
another :class:`~sfumato.core.models.ModelKind`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sfumato.core.edits import check_real
from sfumato.core.errors import InvalidRequest
from sfumato.core.inputs import InputImage
from sfumato.core.prompts import Network, parse_prompt

if TYPE_CHECKING:
    from sfumato.core.request import GenerationRequest

MAX_LORAS = 16
MIN_LORA_WEIGHT, MAX_LORA_WEIGHT = -10.0, 10.0
MAX_CONTROLS = 4
MAX_CONTROL_STRENGTH = 4.0


@dataclass(frozen=True, slots=True)
class LoraUse:
    """A LoRA of the catalogue; the same as ``<lora:name:weight>`` in the prompt.

    Attributes:
        weight: -10 to 10.
        text_weight: that of its part for the text encoders, -10 to 10; None: ``weight``.
    """

    name: str
    weight: float = 1.0
    text_weight: float | None = None

    def __post_init__(self) -> None:
        check_real("loras.weight", self.weight, MIN_LORA_WEIGHT, MAX_LORA_WEIGHT)
        if self.text_weight is not None:
            check_real("loras.text_weight", self.text_weight, MIN_LORA_WEIGHT, MAX_LORA_WEIGHT)

    @property
    def text(self) -> float:
        """The weight of its part for the text encoders."""
        return self.weight if self.text_weight is None else self.text_weight

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LoraUse:
        return cls(**data)


@dataclass(frozen=True, slots=True)
class Control:
    """A ControlNet and the picture that it follows.

    Attributes:
        model: name of a ControlNet of the catalogue.
        image: already in the form that the network was trained on (edges, depth, pose …).
        strength: 0 to 4.
        start, end: the part of the steps that it steers, 0 to 1, ``start`` below ``end``.
    """

    model: str
    image: InputImage
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        check_real("controls.strength", self.strength, 0.0, MAX_CONTROL_STRENGTH)
        check_real("controls.start", self.start, 0.0, 1.0)
        check_real("controls.end", self.end, self.start, 1.0, above=True)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Control:
        return cls(**{**data, "image": InputImage.from_dict(data["image"])})


@dataclass(frozen=True, slots=True)
class Refiner:
    """A second model that finishes the picture (SDXL's refiner).

    Attributes:
        model: name of a model of the catalogue that shares the first one's latents.
        switch_at: how far down the noise it takes over, above 0 and at most 1: 0.8 leaves it the
            last fifth of the timesteps that models are trained on, however many steps that takes.
    """

    model: str
    switch_at: float = 0.8

    def __post_init__(self) -> None:
        check_real("refiner.switch_at", self.switch_at, 0.0, 1.0, above=True)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Refiner:
        return cls(**data)


def wanted_loras(request: GenerationRequest) -> tuple[LoraUse, ...]:
    """The LoRAs of ``request.loras`` and of the prompt, each once, by first mention.

    Weights of the same name add up; what adds up to nothing is left out.

    Raises:
        InvalidRequest: on too many, a sum beyond -10 to 10, or a mention that can't be read.
    """
    named = map(_lora_of, parse_prompt(request.prompt).networks)
    sums: dict[str, tuple[float, float]] = {}
    for use in (*request.loras, *named):
        weight, text = sums.get(use.name, (0.0, 0.0))
        sums[use.name] = weight + use.weight, text + use.text
    uses = tuple(
        LoraUse(name, weight, None if text == weight else text)
        for name, (weight, text) in sums.items()
        if weight or text
    )
    if len(uses) > MAX_LORAS:
        raise InvalidRequest(
            f"{len(uses)} LoRAs are named, in the prompt and beside it.",
            field="loras",
            accepted=f"at most {MAX_LORAS}",
        )
    return uses


def _lora_of(network: Network) -> LoraUse:
    """``<lora:name:text:weight>``: one number is both; ``te=`` and ``unet=`` name them.

    A third, or ``dyn=``, is the part of its rank that A1111 would take.
    """
    places = [argument for argument in network.arguments if "=" not in argument]
    named = dict(argument.split("=", 1) for argument in network.arguments if "=" in argument)
    if not network.name.strip() or len(places) > 3 or not set(named) <= {"te", "unet", "dyn"}:
        raise _unreadable(network)
    text = _number(network, named.get("te", places[0] if places else "1"))
    weight = _number(network, named["unet"]) if "unet" in named else text
    if "unet" not in named and len(places) > 1:
        weight = _number(network, places[1])
    return LoraUse(network.name.strip(), weight, None if text == weight else text)


def _number(network: Network, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise _unreadable(network) from None
    if not math.isfinite(number):
        raise _unreadable(network)
    return number


def _unreadable(network: Network) -> InvalidRequest:
    return InvalidRequest(
        f"{network} in the prompt can't be read.",
        field="prompt",
        accepted="<lora:name:weight>, or <lora:name:text encoder's weight:weight>",
    )
