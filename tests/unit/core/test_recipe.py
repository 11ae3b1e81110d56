from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sfumato.core.models import ModelInfo, ModelLayout, settle
from sfumato.core.ports import ImageTask
from sfumato.core.recipe import Recipe, fingerprint
from sfumato.core.request import GenerationRequest

MODEL = ModelInfo("tiny", "sd1", ModelLayout.DIFFUSERS, "/models/tiny", sizes=((128, 128),))


def task(index: int = 0, notes: tuple[str, ...] = (), **fields: object) -> ImageTask:
    request = GenerationRequest(**{"prompt": "a castle", "seed": 4, **fields})  # type: ignore[arg-type]
    return ImageTask(
        "job", index, request, settle(request, MODEL, random_seed=0), MODEL, notes=notes
    )


def test_the_recipe_holds_what_makes_the_picture_again() -> None:
    wanted = task(index=2, notes=("one",), width=512, height=256, negative_prompt="day")
    recipe = Recipe.of(wanted, model_hash="ab" * 32, notes=("two",))
    assert recipe.seed == 6
    assert (recipe.width, recipe.height) == (512, 256)
    assert (recipe.render_width, recipe.render_height) == (128, 128)
    assert recipe.notes == ("one", "two")
    assert json.loads(recipe.as_json()) == recipe.as_dict()


def test_the_infotext_reads_as_a1111_writes_it() -> None:
    recipe = Recipe.of(
        task(negative_prompt="fog,\nrain", sampler="euler_a", guidance_scale=7.5),
        model_hash="0123456789abcdef",
    )
    prompt, negative, rest, settings = recipe.as_parameters().split("\n")
    assert (prompt, negative, rest) == ("a castle", "Negative prompt: fog,", "rain")
    assert settings.startswith(
        "Steps: 25, Sampler: Euler a, CFG scale: 7.5, Seed: 4, Size: 128x128, "
        "Model hash: 0123456789, Model: tiny, Version: Sfumato "
    )
    assert settings.endswith(", Resampled to: 512x512")


def test_a_schedule_is_named_where_one_was_asked_for() -> None:
    asked = Recipe.of(task(sampler="DPM++ 2M", schedule="karras"), model_hash="")
    assert ", Sampler: DPM++ 2M, Schedule type: Karras, " in asked.as_parameters()
    assert "Schedule" not in Recipe.of(task(), model_hash="").as_parameters()


def test_a_clip_skip_is_named_where_it_is_not_the_last_layer() -> None:
    skipped = Recipe.of(task(clip_skip=2), model_hash="")
    assert ", Clip skip: 2" in skipped.as_parameters()
    assert "Clip skip" not in Recipe.of(task(), model_hash="").as_parameters()


def test_a_value_with_a_separator_is_quoted() -> None:
    recipe = replace(Recipe.of(task(), model_hash=""), model="odd, name: x")
    assert 'Model: "odd, name: x"' in recipe.as_parameters()


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": "a tower"},
        {"negative_prompt": "day"},
        {"seed": 5},
        {"sampler": "ddim"},
        {"schedule": "karras"},
        {"num_inference_steps": 3},
        {"guidance_scale": 2},
        {"clip_skip": 2},
        {"width": 256},
        {"index": 1},
    ],
)
def test_whatever_changes_pixels_changes_the_fingerprint(other: dict[str, object]) -> None:
    assert fingerprint(task(**other)) != fingerprint(task())  # type: ignore[arg-type]


def test_what_does_not_change_pixels_leaves_the_fingerprint() -> None:
    same = task(notes=("a note",), priority=5, metadata={"who": "me"}, num_images=3)
    assert fingerprint(same) == fingerprint(task())
