"""What may be said beside the prompt, as typed dictionaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Required, TypedDict

from sfumato.client.pictures import Picture


class InpaintingOptions(TypedDict, total=False):
    """Redraw the part of ``init_image`` where the mask is white.

    ``blur`` is 0 to 256 pixels. ``fill`` is ``original``, ``blur``, ``noise`` or ``nothing``.
    ``only_masked`` draws the mask's surroundings at the full size, seeing ``padding`` pixels of 0 to
    512 around it. ``invert`` redraws where it is black. ``alpha`` reads the mask's transparency
    instead, where it has any: what is transparent is redrawn.
    """

    mask: Required[Picture]
    blur: int
    fill: str
    only_masked: bool
    padding: int
    invert: bool
    alpha: bool


class OutpaintingOptions(TypedDict, total=False):
    """Continue ``init_image`` by so many pixels, 0 to 2,048 a side; ``blur`` is that of the seam."""

    left: int
    right: int
    top: int
    bottom: int
    blur: int
    fill: str


class HiresOptions(TypedDict, total=False):
    """Draw, enlarge by ``scale`` of 1 to 8 with ``upscaler``, and draw over it with ``strength``."""

    scale: float
    upscaler: str
    strength: float
    num_inference_steps: int


class UpscalingOptions(TypedDict, total=False):
    """Enlarge the finished picture by ``scale`` of 1 to 8."""

    upscaler: Required[str]
    scale: float


class VariationOptions(TypedDict):
    """Begin at noise between the seed's own, at ``strength`` 0, and that of ``seed``, at 1."""

    seed: int
    strength: float


class LoraOptions(TypedDict, total=False):
    """A LoRA by name at ``weight``, -10 to 10; ``text_weight`` is for its text encoders' part."""

    name: Required[str]
    weight: float
    text_weight: float


class ControlOptions(TypedDict, total=False):
    """A ControlNet by name and its picture; it steers from ``start`` to ``end``, parts of the steps
    of 0 to 1, with ``strength`` of 0 to 4."""

    model: Required[str]
    image: Required[Picture]
    strength: float
    start: float
    end: float


class RefinerOptions(TypedDict, total=False):
    """A second model that takes over ``switch_at`` of the way down the noise, above 0 to 1."""

    model: Required[str]
    switch_at: float


class WebhookOptions(TypedDict, total=False):
    """Where to tell what becomes of the job, a public https address, and what: some of ``started``,
    ``image``, ``progress``, ``succeeded``, ``failed`` and ``canceled``; left out: all but
    ``progress``."""

    url: Required[str]
    events: Sequence[str]


class RequestOptions(TypedDict, total=False):
    """What may be said beside the prompt; what is left out takes the model's own default.

    Sizes are pixels, multiples of 8. ``seed`` is 0 to 2**64 - 1. ``output_format`` is ``png``,
    ``jpeg`` or ``webp``; ``output_quality`` of the latter two is 1 to 100. ``priority`` is -100 to
    100, higher first. ``metadata`` is echoed in the job. ``init_image`` is a picture to begin with, of which ``strength``, above 0 to 1, is drawn
    anew. ``determinism`` is ``strict`` or ``fast``. The service checks every field and names the
    one at fault.
    """

    negative_prompt: str
    model: str
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    seed: int
    num_images: int
    clip_skip: int
    sampler: str
    schedule: str
    output_format: str
    output_quality: int
    priority: int
    runtime: str
    metadata: Mapping[str, object]
    init_image: Picture
    strength: float
    inpainting: InpaintingOptions
    outpainting: OutpaintingOptions
    hires: HiresOptions
    upscaling: UpscalingOptions
    variation: VariationOptions
    loras: Sequence[LoraOptions]
    controls: Sequence[ControlOptions]
    vae: str
    refiner: RefinerOptions
    determinism: str
    webhook: WebhookOptions
