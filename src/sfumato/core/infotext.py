"""A recipe as the text that A1111 writes into its pictures, under the names that it has there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sfumato.core.edits import LATENT_UPSCALER, Fill, Hires, Inpainting, Outpainting
from sfumato.core.models import ModelKind
from sfumato.core.request import Determinism, canonical_json
from sfumato.core.samplers import sampler_label, schedule_label

if TYPE_CHECKING:
    from sfumato.core.recipe import Recipe

#: A1111's words for what stands below the mask.
_FILLS = {
    Fill.BLUR: "fill",
    Fill.ORIGINAL: "original",
    Fill.NOISE: "latent noise",
    Fill.NOTHING: "latent nothing",
}
#: Hexadecimal digits that A1111 shows of a LoRA's hash and of any other.
_LORA_DIGITS, _HASH_DIGITS = 12, 10

_Pairs = Iterator[tuple[str, object]]


def infotext(recipe: Recipe) -> str:
    """Prompt, negative prompt, then one line of ``Key: value`` pairs.

    What A1111 has no name for follows its own keys; galleries show it as it stands.
    """
    lines = [recipe.prompt]
    if recipe.negative_prompt:
        lines.append(f"Negative prompt: {recipe.negative_prompt}")
    lines.append(", ".join(f"{key}: {_quoted(value)}" for key, value in _pairs(recipe)))
    return "\n".join(lines)


def _pairs(recipe: Recipe) -> _Pairs:
    yield "Steps", recipe.num_inference_steps
    yield "Sampler", sampler_label(recipe.sampler)
    if recipe.schedule is not None:
        yield "Schedule type", schedule_label(recipe.schedule)
    yield "CFG scale", f"{recipe.guidance_scale:g}"
    yield "Seed", recipe.seed
    yield "Size", f"{recipe.render_width}x{recipe.render_height}"
    yield "Model hash", recipe.model_hash[:_HASH_DIGITS]
    yield "Model", recipe.model
    yield "Version", f"Sfumato {recipe.version}"
    yield from _weights(recipe)
    if recipe.variation is not None and recipe.variation.strength:
        yield "Variation seed", recipe.variation.seed
        yield "Variation seed strength", f"{recipe.variation.strength:g}"
    if recipe.clip_skip > 1:
        yield "Clip skip", recipe.clip_skip
    yield from _edits(recipe)
    if recipe.determinism is Determinism.STRICT:
        yield "Determinism", recipe.determinism.value
    if (recipe.width, recipe.height) != (recipe.render_width, recipe.render_height):
        yield "Resampled to", f"{recipe.width}x{recipe.height}"


def _weights(recipe: Recipe) -> _Pairs:
    digests = {(found.kind, found.name): found.sha256 for found in recipe.weights}
    if recipe.vae is not None:
        if digest := digests.get((ModelKind.VAE, recipe.vae)):
            yield "VAE hash", digest[:_HASH_DIGITS]
        yield "VAE", recipe.vae
    loras = [
        f"{found.name}: {found.sha256[:_LORA_DIGITS]}"
        for found in recipe.weights
        if found.kind is ModelKind.LORA and found.sha256
    ]
    if loras:
        yield "Lora hashes", ", ".join(loras)
    for number, control in enumerate(recipe.controls):
        unit = (
            f"Module: none, Model: {control.model}, Weight: {control.strength:g}, "
            f"Guidance Start: {control.start:g}, Guidance End: {control.end:g}"
        )
        yield f"ControlNet {number}", unit
    if recipe.refiner is not None:
        digest = digests.get((ModelKind.BASE, recipe.refiner.model))
        shown = f" [{digest[:_HASH_DIGITS]}]" if digest else ""
        yield "Refiner", f"{recipe.refiner.model}{shown}"
        yield "Refiner switch at", f"{recipe.refiner.switch_at:g}"


def _edits(recipe: Recipe) -> _Pairs:
    # A1111 has one key for the strength of both, and no picture that has both.
    strength = recipe.hires.strength if recipe.hires is not None else recipe.strength
    if strength is not None:
        yield "Denoising strength", f"{strength:g}"
    if recipe.inpainting is not None:
        yield from _inpainting(recipe.inpainting)
    if recipe.outpainting is not None:
        yield from _outpainting(recipe.outpainting)
    if recipe.hires is not None:
        yield from _hires(recipe.hires)
    if recipe.upscaling is not None:
        yield "Postprocess upscale by", f"{recipe.upscaling.scale:g}"
        yield "Postprocess upscaler", recipe.upscaling.upscaler


def _inpainting(edit: Inpainting) -> _Pairs:
    if edit.invert:
        yield "Mask mode", "Inpaint not masked"
    if edit.blur:
        yield "Mask blur", edit.blur
    if edit.only_masked:
        yield "Inpaint area", "Only masked"
        yield "Masked area padding", edit.padding
    if edit.fill is not Fill.ORIGINAL:
        yield "Masked content", _FILLS[edit.fill]


def _outpainting(edit: Outpainting) -> _Pairs:
    sides = ("left", "right", "top", "bottom")
    grown = ((side, getattr(edit, side)) for side in sides)
    yield "Outpainting", ", ".join(f"{side} {pixels}" for side, pixels in grown if pixels)
    if edit.blur:
        yield "Mask blur", edit.blur
    if edit.fill is not Fill.ORIGINAL:
        yield "Masked content", _FILLS[edit.fill]


def _hires(edit: Hires) -> _Pairs:
    yield "Hires upscale", f"{edit.scale:g}"
    if edit.num_inference_steps is not None:
        yield "Hires steps", edit.num_inference_steps
    latent = edit.upscaler == LATENT_UPSCALER
    yield "Hires upscaler", "Latent" if latent else edit.upscaler


def _quoted(value: object) -> str:
    """A value that holds a separator is put into quotes, as A1111 does."""
    text = str(value)
    return canonical_json(text) if any(mark in text for mark in ",:\n") else text
