from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.core.errors import InvalidRequest
from sfumato.core.models import (
    ModelDefaults,
    ModelInfo,
    ModelLayout,
    notes_for,
    settle,
    unknown_words,
)
from sfumato.core.request import GenerationRequest
from sfumato.core.sizes import nearest_size


def model(**fields: object) -> ModelInfo:
    given_fields = {"name": "tiny", "family": "sd1", "path": "/models/tiny", **fields}
    return ModelInfo(layout=ModelLayout.DIFFUSERS, **given_fields)  # type: ignore[arg-type]


def test_what_is_left_out_takes_the_models_defaults() -> None:
    defaults = ModelDefaults(128, 96, 12, 3.5, "euler")
    settings = settle(GenerationRequest("x"), model(defaults=defaults), random_seed=9)
    assert (settings.width, settings.height) == (128, 96)
    assert (settings.num_inference_steps, settings.guidance_scale) == (12, 3.5)
    assert (settings.sampler, settings.seed) == ("euler", 9)
    assert not settings.resampled


def test_zero_is_a_value_and_not_a_gap() -> None:
    request = GenerationRequest("x", seed=0, guidance_scale=0)
    settings = settle(request, model(), random_seed=9)
    assert (settings.seed, settings.guidance_scale) == (0, 0.0)


def test_one_side_gives_the_other_by_the_models_aspect() -> None:
    wide = model(defaults=ModelDefaults(width=768, height=512))
    by_width = settle(GenerationRequest("x", width=384), wide, random_seed=0)
    by_height = settle(GenerationRequest("x", height=8), wide, random_seed=0)
    assert (by_width.width, by_width.height) == (384, 256)
    assert by_height.width % 8 == 0


SIZES = ((128, 128), (64, 64), (128, 192), (192, 128))


@pytest.mark.parametrize(
    ("asked", "drawn"),
    [
        ((512, 512), (128, 128)),
        ((64, 64), (64, 64)),
        ((72, 64), (64, 64)),
        ((512, 768), (128, 192)),
        ((1024, 256), (192, 128)),
    ],
)
def test_the_nearest_size_has_the_aspect_first(
    asked: tuple[int, int], drawn: tuple[int, int]
) -> None:
    assert nearest_size(SIZES, *asked) == drawn
    assert nearest_size((), *asked) == asked


@given(st.integers(1, 256), st.integers(1, 256))
def test_every_size_finds_one_that_the_model_knows(width: int, height: int) -> None:
    assert nearest_size(SIZES, 8 * width, 8 * height) in SIZES


def test_words_the_model_does_not_know_are_named_once_in_order() -> None:
    knows = model(vocabulary=frozenset({"a", "castle", "night", "at"}))
    prompt = "A Castle, at NIGHT: zebra's 3 zebra's über-cool castle"
    assert unknown_words(knows, prompt) == ["zebra's", "über-cool"]
    assert unknown_words(model(), prompt) == []


def test_words_that_a_lora_was_trained_with_are_known_beside_it() -> None:
    knows = model(vocabulary=frozenset({"a", "castle"}))
    request = GenerationRequest("a lighthouse, a zebra")
    settings = settle(request, knows, random_seed=0)
    notes = notes_for(request, settings, knows, taught={"lighthouse"})
    assert notes == ("tiny does not know: zebra",)


def test_syntax_is_no_word() -> None:
    knows = model(vocabulary=frozenset({"a", "castle", "night"}))
    prompt = "a (castle:1.3) [night:a:1e-1] BREAK a castle :0.5 AND [night|moon] <lora:ink:1>"
    assert unknown_words(knows, prompt) == ["moon"]


def test_a_prompt_that_no_engine_can_follow_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="<hypernet:ink>"):
        settle(GenerationRequest("a castle <hypernet:ink>"), model(), random_seed=0)


def test_brackets_without_a_partner_are_noted() -> None:
    request = GenerationRequest("a (castle", negative_prompt="night]")
    notes = notes_for(request, settle(request, model(), random_seed=0), model())
    assert [note.split(" has")[0] for note in notes] == [
        "one bracket of the prompt",
        "one bracket of the negative prompt",
    ]


def test_the_caller_is_told_of_unknown_words_and_resampling() -> None:
    knows = model(vocabulary=frozenset({"castle"}), sizes=((128, 128),))
    request = GenerationRequest("castle zebra", width=512, height=512)
    notes = notes_for(request, settle(request, knows, random_seed=0), knows)
    assert notes == (
        "tiny does not know: zebra",
        "drawn at 128x128, the nearest size tiny knows, and resampled to 512x512",
    )
