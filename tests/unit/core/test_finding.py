from __future__ import annotations

from dataclasses import replace

import pytest

from sfumato.core.edits import Hires, Upscaling
from sfumato.core.errors import InvalidRequest, ModelRefused, UnknownModel
from sfumato.core.extras import Control, LoraUse, Refiner
from sfumato.core.finding import choose_model, embedding_notes, find_extras, fits, taught_words
from sfumato.core.inputs import InputImage
from sfumato.core.models import ModelInfo, ModelKind, ModelLayout
from sfumato.core.request import GenerationRequest

EDGES = InputImage("0" * 64, "image/png", 64, 64, 100)


def model(
    name: str, kind: ModelKind = ModelKind.BASE, family: str = "sd1", **fields: str
) -> ModelInfo:
    return ModelInfo(name, family, ModelLayout.CHECKPOINT, f"/models/{name}", kind=kind, **fields)


BASE = model("photo")
CATALOGUE = [
    BASE,
    model("big", family="sdxl"),
    model("finer", family="sd2"),
    model("big-refiner", family="sdxl_refiner"),
    model("ink", ModelKind.LORA, title="Ink_Drawing"),
    model("ink-xl", ModelKind.LORA, "sdxl"),
    model("old", ModelKind.LORA, refusal="old.pt is a pickle"),
    model("canny", ModelKind.CONTROLNET),
    model("canny-2", ModelKind.CONTROLNET, "sd2"),
    model("clear", ModelKind.VAE, ""),
    model("clear-xl", ModelKind.VAE, "sdxl"),
    model("ultra", ModelKind.UPSCALER, ""),
    model("bad-hands-5", ModelKind.EMBEDDING),
    model("big-hands", ModelKind.EMBEDDING, "sdxl"),
    model("hurt", ModelKind.EMBEDDING, refusal="hurt.pt is a pickle"),
    model("checker", ModelKind.SAFETY, ""),
]


def test_an_unknown_model_names_the_near_ones() -> None:
    models = [model("dreamshaper-8"), model("starter"), model("dreamer", ModelKind.LORA)]
    assert choose_model(models, "starter").name == "starter"
    assert choose_model(models, "dreamer", ModelKind.LORA).kind is ModelKind.LORA
    with pytest.raises(UnknownModel, match=r"no model 'dreamshaper'.*'dreamshaper-8'") as caught:
        choose_model(models, "dreamshaper")
    assert caught.value.accepted == ["dreamshaper-8", "starter"]
    assert caught.value.field == "model"
    with pytest.raises(UnknownModel, match="another kind: LoRA"):
        choose_model(models, "dreamer")


def test_a_refused_model_says_why() -> None:
    with pytest.raises(ModelRefused, match="a pickle"):
        choose_model([model("tiny", refusal="it is a pickle")], "tiny")


def found(request: GenerationRequest, base: ModelInfo = BASE, **named: str) -> list[str]:
    return [extra.name for extra in find_extras(request, base, CATALOGUE, **named)]


def test_everything_that_is_named_is_found_once() -> None:
    request = GenerationRequest(
        "a castle <lora:ink:0.4>",
        loras=(LoraUse("ink"),),
        controls=(Control("canny", EDGES), Control("canny", EDGES, start=0.5)),
        vae="clear",
        hires=Hires(upscaler="ultra"),
        upscaling=Upscaling("ultra"),
        refiner=Refiner("finer"),
    )
    names = found(request, safety="checker")
    assert names == ["ink", "canny", "clear", "ultra", "finer", "checker"]
    assert found(GenerationRequest("a castle", hires=Hires())) == []


def test_an_embedding_is_found_by_a_word_of_either_prompt() -> None:
    assert found(GenerationRequest("a (Bad-Hands-5:1.2), b")) == ["bad-hands-5"]
    assert found(GenerationRequest("a", negative_prompt="b,BAD-HANDS-5")) == ["bad-hands-5"]
    assert found(GenerationRequest("[a:bad-hands-5:0.5]")) == ["bad-hands-5"]
    assert found(GenerationRequest("bad-hands-55, xbad-hands-5, bad hands 5")) == []
    assert found(GenerationRequest("a <lora:ink>")) == ["ink"]


def test_models_of_the_same_latents_refine_each_other() -> None:
    request = GenerationRequest("a", refiner=Refiner("big-refiner"), vae="clear-xl")
    assert found(request, CATALOGUE[1]) == ["clear-xl", "big-refiner"]
    request = GenerationRequest("a", refiner=Refiner("big"), vae="clear-xl")
    assert found(request, CATALOGUE[3]) == ["clear-xl", "big"]


def test_a_word_whose_embedding_can_not_be_read_stays_a_word_and_is_noted() -> None:
    request = GenerationRequest("big-hands, hurt, bad-hands-5")
    assert found(request) == ["bad-hands-5"]
    assert list(embedding_notes(request, BASE, CATALOGUE)) == [
        "big-hands is read as a word: the embedding of that name is for SDXL, but photo is SD 1",
        "hurt is read as a word: hurt.pt is a pickle",
    ]


@pytest.mark.parametrize(
    ("request_", "field", "words"),
    [
        (GenerationRequest("a", loras=(LoraUse("inc"),)), "loras", "no LoRA 'inc'.*'ink'"),
        (GenerationRequest("a <lora:INK>"), "prompt", "no LoRA 'INK'.*'ink'"),
        (GenerationRequest("a <lora:Ink_Drawing>"), "prompt", "Did you mean 'ink'"),
        (GenerationRequest("a", controls=(Control("ink", EDGES),)), "controls", "no ControlNet"),
        (GenerationRequest("a", vae="photo"), "vae", "no VAE 'photo'"),
        (GenerationRequest("a", hires=Hires(upscaler="x")), "hires.upscaler", "no upscaler"),
        (GenerationRequest("a", upscaling=Upscaling("x")), "upscaling.upscaler", "no upscaler"),
        (GenerationRequest("a", refiner=Refiner("ink")), "refiner.model", "no model 'ink'"),
    ],
)
def test_what_is_not_there_is_named_with_its_field(
    request_: GenerationRequest, field: str, words: str
) -> None:
    with pytest.raises(UnknownModel, match=words) as unknown:
        found(request_)
    assert unknown.value.field == field


def test_a_pickle_is_refused() -> None:
    with pytest.raises(ModelRefused, match="a pickle") as refused:
        found(GenerationRequest("a <lora:old>"))
    assert refused.value.field == "prompt"


@pytest.mark.parametrize(
    ("request_", "field", "words"),
    [
        (GenerationRequest("a <lora:ink-xl>"), "prompt", "'ink-xl' is for SDXL, but photo is SD 1"),
        (GenerationRequest("a", vae="clear-xl"), "vae", "is for SDXL"),
        (GenerationRequest("a", controls=(Control("canny-2", EDGES),)), "controls", "for SD 2"),
        (
            GenerationRequest("a", refiner=Refiner("big")),
            "refiner.model",
            "refiner 'big' is SDXL, but photo is SD 1",
        ),
    ],
)
def test_weights_for_another_family_are_refused(
    request_: GenerationRequest, field: str, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words) as refused:
        found(request_)
    assert refused.value.field == field
    assert "ink-xl" not in (refused.value.accepted or [])


def test_words_are_known_by_the_loras_and_embeddings_that_a_request_uses() -> None:
    ink = replace(model("ink", ModelKind.LORA), vocabulary=frozenset({"brush", "paper"}))
    weights = [ink, *(other for other in CATALOGUE if other.name != "ink")]
    prompt = "a brush, Bad-Hands-5, big-hands, hurt"
    beside = {"bad-hands-5"}
    assert taught_words(GenerationRequest(prompt), BASE, weights) == beside
    with_lora = GenerationRequest(prompt, loras=(LoraUse("ink"),))
    assert taught_words(with_lora, BASE, weights) == {"brush", "paper", *beside}
    mentioned = GenerationRequest("a brush <lora:ink:0.5>")
    assert taught_words(mentioned, BASE, weights) == {"brush", "paper"}


def test_what_is_not_known_of_a_family_is_no_reason_to_refuse() -> None:
    assert fits(model("x", ModelKind.LORA, "sdxl"), model("y", family="sd"))
    assert fits(model("x", ModelKind.LORA, ""), BASE)
    assert fits(model("x", ModelKind.UPSCALER, "sdxl"), BASE)
    assert fits(model("x", ModelKind.VAE, "sd1"), model("y", family="sd2"))
    assert not fits(model("x", ModelKind.LORA, "sd1"), model("y", family="sd2"))
