from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.core.errors import InvalidRequest, ModelRefused
from sfumato.core.extras import LoraUse
from sfumato.core.pipelines import (
    check_for_pipeline,
    missing_parts,
    pipeline_defaults,
    pipeline_parts,
    rounded_up,
)
from sfumato.core.request import GenerationRequest

INDEX = {
    "_class_name": "FluxPipeline",
    "_diffusers_version": "0.35.0",
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "image_encoder": [None, None],
    "force_zeros_for_empty_prompt": True,
}


def test_parts_are_told_with_their_classes() -> None:
    assert pipeline_parts(INDEX) == {
        "scheduler": ("diffusers", "FlowMatchEulerDiscreteScheduler"),
        "transformer": ("diffusers", "FluxTransformer2DModel"),
        "text_encoder": ("transformers", "CLIPTextModel"),
        "image_encoder": None,
    }
    assert missing_parts(INDEX, ["scheduler/a.json", "transformer/b.json"]) == ["text_encoder/"]


@pytest.mark.parametrize(
    "odd",
    [
        {"transformer": ["my_code", "Net"]},
        {"transformer": ["diffusers", 5]},
        {"transformer": ["diffusers"]},
        {"transformer": ["diffusers.evil", "Net"]},
        {"_class_name": ["my_code", "Pipeline"]},
        {"_class_name": None},
        {"_class_name": "WanVideoPipeline"},
        {"_class_name": "FluxKontextPipeline"},
    ],
)
def test_what_may_be_other_code_or_is_no_picture_is_refused(odd: dict[str, object]) -> None:
    with pytest.raises(ModelRefused):
        pipeline_parts({**INDEX, **odd})


@given(st.dictionaries(st.text(), st.recursive(st.none() | st.text(), st.lists, max_leaves=4)))
def test_only_two_libraries_come_through(index: dict[str, object]) -> None:
    try:
        parts = pipeline_parts({**index, "_class_name": "FluxPipeline"})
    except ModelRefused:
        return
    assert {part[0] for part in parts.values() if part} <= {"diffusers", "transformers"}


def test_defaults_follow_from_the_class_and_its_configs() -> None:
    schnell = pipeline_defaults(INDEX, {"guidance_embeds": False}, {})
    dev = pipeline_defaults(INDEX, {"guidance_embeds": True}, {})
    assert (schnell.num_inference_steps, schnell.guidance_scale) == (4, 0.0)
    assert (dev.num_inference_steps, dev.guidance_scale, dev.width) == (28, 3.5, 1024)
    small = pipeline_defaults(
        {"_class_name": "NewPipeline"}, {"sample_size": 64}, {"block_out_channels": [1, 2, 3, 4]}
    )
    assert (small.width, small.num_inference_steps) == (512, 28)


def test_sides_are_rounded_up() -> None:
    assert [rounded_up(side, 16) for side in (8, 16, 1000)] == [16, 16, 1008]


def test_what_pipelines_are_not_given_is_refused_by_its_field() -> None:
    check_for_pipeline(GenerationRequest("a castle"), "flux")
    with pytest.raises(InvalidRequest, match="can't use LoRAs") as caught:
        check_for_pipeline(GenerationRequest("a castle", loras=(LoraUse("ink"),)), "flux")
    assert caught.value.field == "loras"
