"""Recipes of pictures that use all that a request can bring."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.core.edits import Fill, Hires, Inpainting, Outpainting, Upscaling, Variation
from sfumato.core.errors import InvalidRequest
from sfumato.core.extras import Control, LoraUse, Refiner
from sfumato.core.inputs import InputImage
from sfumato.core.models import ModelFile, ModelInfo, ModelKind, ModelLayout, settle
from sfumato.core.ports import ImageTask
from sfumato.core.recipe import Recipe, fingerprint
from sfumato.core.request import Determinism, GenerationRequest


def _file(name: str) -> ModelFile:
    return ModelFile(f"{name}.safetensors", 10, sha256=f"{len(name):02x}" * 32)


def _model(name: str, kind: ModelKind = ModelKind.BASE) -> ModelInfo:
    file = _file(name)
    return ModelInfo(name, "sd1", ModelLayout.CHECKPOINT, name, files=(file,), kind=kind)


MODEL = _model("photo")
IMAGE, MASK, EDGES = (
    InputImage(letter * 64, "image/png", 64, 64, 100) for letter in ("a", "b", "c")
)
EXTRAS = (
    _model("ink", ModelKind.LORA),
    _model("soft", ModelKind.VAE),
    _model("canny", ModelKind.CONTROLNET),
    _model("finisher"),
)
FIELDS: dict[str, object] = {
    "init_image": IMAGE,
    "strength": 0.6,
    "inpainting": Inpainting(MASK, blur=8, fill=Fill.NOISE, only_masked=True, invert=True),
    "upscaling": Upscaling("esrgan", 4),
    "variation": Variation(seed=5, strength=0.25),
    "loras": (LoraUse("ink", 0.5),),
    "controls": (Control("canny", EDGES, strength=0.5, end=0.75),),
    "vae": "soft",
    "refiner": Refiner("finisher", 0.9),
}


def task(
    index: int = 0,
    extras: tuple[ModelInfo, ...] = EXTRAS,
    model: ModelInfo = MODEL,
    **fields: object,
) -> ImageTask:
    asked = {"prompt": "a castle", "seed": 4, **FIELDS, **fields}
    request = GenerationRequest(**asked)  # type: ignore[arg-type]
    settings = replace(
        settle(request, model, random_seed=0),
        strength=request.strength,
        determinism=request.determinism or Determinism.FAST,
    )
    return ImageTask("job", index, request, settings, model, extras=extras)


def recipe(**fields: object) -> Recipe:
    engine = {"torch": "2.9.0", "threads": 2}
    return Recipe.of(task(**fields), model_hash="ab" * 32, engine=engine)  # type: ignore[arg-type]


def test_it_is_read_back_from_its_own_text() -> None:
    for written in (
        recipe(determinism=Determinism.STRICT),
        recipe(hires=Hires(2), inpainting=None),
    ):
        read = Recipe.from_json(written.as_json())
        assert read == written
        assert read.as_json() == written.as_json()


def test_what_it_asks_for_makes_the_same_picture_alone() -> None:
    asked = recipe(index=2, determinism=Determinism.STRICT).request()
    assert (asked.seed, asked.num_images) == (4, 1), "variations keep the first picture's seed"
    assert asked.variation == Variation(seed=7, strength=0.25)
    again = ImageTask("other", 0, asked, settle(asked, MODEL, random_seed=0), MODEL, extras=EXTRAS)
    settled = replace(
        again.settings, strength=asked.strength, determinism=asked.determinism or Determinism.FAST
    )
    assert fingerprint(replace(again, settings=settled)) == fingerprint(
        task(index=2, determinism=Determinism.STRICT)
    )


def test_a_recipe_of_the_first_version_is_read() -> None:
    old = (
        '{"clip_skip":1,"guidance_scale":3.5,"height":128,"model":"starter","model_hash":"ab",'
        '"negative_prompt":"","notes":["one"],"num_inference_steps":12,"prompt":"a castle",'
        '"render_height":128,"render_width":128,"sampler":"dpmpp_2m","schedule":null,"seed":7,'
        '"version":"0.1.0","width":128}'
    )
    read = Recipe.from_json(old)
    assert (read.prompt, read.version, read.notes) == ("a castle", "0.1.0", ("one",))
    assert read.determinism is Determinism.FAST
    assert read.request().seed == 7


@given(st.one_of(st.text(), st.binary().map(repr), st.just('{"prompt":1}'), st.just("[]")))
def test_what_is_no_recipe_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        Recipe.from_json(text)


def test_the_infotext_names_it_as_a1111_does() -> None:
    text = recipe().as_parameters()
    for part in (
        "VAE hash: 0404040404, VAE: soft",
        'Lora hashes: "ink: 030303030303"',
        'ControlNet 0: "Module: none, Model: canny, Weight: 0.5, Guidance Start: 0, ',
        "Refiner: finisher [0808080808], Refiner switch at: 0.9",
        "Variation seed: 5, Variation seed strength: 0.25",
        "Denoising strength: 0.6, Mask mode: Inpaint not masked, Mask blur: 8",
        "Inpaint area: Only masked, Masked area padding: 32, Masked content: latent noise",
        "Postprocess upscale by: 4, Postprocess upscaler: esrgan",
    ):
        assert f", {part}" in text
    assert "Determinism" not in text


def test_a_second_pass_and_an_outpainting_are_named() -> None:
    text = recipe(
        init_image=None, strength=None, inpainting=None, hires=Hires(1.5, num_inference_steps=9)
    ).as_parameters()
    assert (
        "Denoising strength: 0.7, Hires upscale: 1.5, Hires steps: 9, Hires upscaler: Latent"
        in text
    )
    text = recipe(inpainting=None, outpainting=Outpainting(left=8, top=16)).as_parameters()
    assert 'Outpainting: "left 8, top 16", Mask blur: 8, Masked content: fill' in text


def test_what_was_not_used_is_not_named() -> None:
    unused = dict.fromkeys(FIELDS) | {"loras": (), "controls": ()}
    plain = recipe(extras=(), **unused)
    keys = [pair.partition(":")[0] for pair in plain.as_parameters().splitlines()[-1].split(", ")]
    assert keys == [
        *("Steps", "Sampler", "CFG scale", "Seed", "Size", "Model hash", "Model", "Version")
    ]
    assert not plain.as_dict().keys() & (FIELDS.keys())


@pytest.mark.parametrize(
    "other",
    [
        {"determinism": Determinism.STRICT},
        {"init_image": MASK},
        {"strength": 0.5},
        {"inpainting": Inpainting(MASK, blur=8, fill=Fill.BLUR, only_masked=True, invert=True)},
        {"inpainting": Inpainting(EDGES, blur=8, fill=Fill.NOISE, only_masked=True, invert=True)},
        {"inpainting": None},
        {"inpainting": None, "outpainting": Outpainting(left=8)},
        {"upscaling": Upscaling("esrgan", 2)},
        {"variation": Variation(seed=6, strength=0.25)},
        {"loras": (LoraUse("ink", 0.75),)},
        {"controls": (Control("canny", MASK, strength=0.5, end=0.75),)},
        {"vae": None},
        {"refiner": Refiner("finisher", 0.8)},
        {"extras": ()},
        {"extras": (replace(EXTRAS[0], files=(_file("other ink"),)), *EXTRAS[1:])},
        {"model": replace(MODEL, files=(_file("photo of another kind"),))},
    ],
)
def test_whatever_changes_pixels_changes_the_fingerprint(other: dict[str, object]) -> None:
    assert fingerprint(task(**other)) != fingerprint(task())  # type: ignore[arg-type]
