"""What a request accepts, what it refuses, and that it says so with the field's name."""

import hashlib
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.core.errors import InvalidRequest
from sfumato.core.request import (
    MAX_PROMPT_CHARACTERS,
    GenerationRequest,
    OutputFormat,
    canonical_json,
)

requests = st.builds(
    GenerationRequest,
    prompt=st.text(min_size=1, max_size=50).filter(str.strip).filter(lambda t: t.isprintable()),
    negative_prompt=st.text(max_size=20).filter(lambda t: t.isprintable()),
    model=st.none() | st.just("starter"),
    width=st.none() | st.integers(1, 256).map(lambda n: n * 8),
    height=st.none() | st.integers(1, 256).map(lambda n: n * 8),
    num_inference_steps=st.none() | st.integers(1, 150),
    guidance_scale=st.none() | st.floats(0, 50) | st.integers(0, 50),
    seed=st.none() | st.integers(0, 2**64 - 1),
    num_images=st.integers(1, 64),
    sampler=st.none() | st.just("euler"),
    output_format=st.sampled_from(OutputFormat),
    priority=st.integers(-100, 100),
    clip_skip=st.integers(1, 12),
    metadata=st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3),
)


@given(requests)
def test_a_request_survives_its_plain_form(request: GenerationRequest) -> None:
    again = GenerationRequest.from_dict(request.as_dict())
    assert again == request
    assert again.canonical_hash() == request.canonical_hash()


def test_a_request_of_before_later_fields_still_reads_and_has_its_hash() -> None:
    request = GenerationRequest("a castle", seed=1)
    first = "prompt negative_prompt model width height num_inference_steps guidance_scale seed"
    names = {*first.split(), "num_images", "sampler", "output_format", "priority", "runtime"}
    old = {key: value for key, value in request.as_dict().items() if key in {*names, "metadata"}}
    assert GenerationRequest.from_dict(old) == request
    assert hashlib.sha256(canonical_json(old).encode()).hexdigest() == request.canonical_hash()
    assert GenerationRequest("a castle", seed=1, clip_skip=2) != request


@pytest.mark.parametrize("quality", [0, 101, True, 50.0])
def test_a_quality_is_1_to_100(quality: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        GenerationRequest("x", output_format=OutputFormat.JPEG, output_quality=quality)  # type: ignore[arg-type]
    assert caught.value.field == "output_quality"


def test_a_lossless_picture_has_no_quality() -> None:
    with pytest.raises(InvalidRequest, match="PNG is lossless"):
        GenerationRequest("x", output_quality=100)
    assert GenerationRequest("x", output_format=OutputFormat.WEBP, output_quality=1)


@given(requests, requests)
def test_different_requests_have_different_hashes(
    one: GenerationRequest, other: GenerationRequest
) -> None:
    assert (one.canonical_hash() == other.canonical_hash()) == (one.as_dict() == other.as_dict())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", ""),
        ("prompt", " \n\t"),
        ("prompt", None),
        ("prompt", "a\ud800b"),
        ("prompt", "x" * (MAX_PROMPT_CHARACTERS + 1)),
        ("negative_prompt", 3),
        ("width", 0),
        ("width", -8),
        ("width", 7),
        ("height", 12),
        ("height", 64.0),
        ("height", True),
        ("num_inference_steps", 0),
        ("num_inference_steps", 1000),
        ("num_inference_steps", 4.5),
        ("guidance_scale", math.nan),
        ("guidance_scale", math.inf),
        ("guidance_scale", -0.1),
        ("guidance_scale", 51),
        ("seed", -1),
        ("seed", 2**64),
        ("num_images", 0),
        ("num_images", 65),
        ("num_images", None),
        ("priority", 101),
        ("metadata", {"x": "a\ud800b"}),
        ("metadata", {"x": object()}),
        ("metadata", {"x": math.nan}),
        ("metadata", {"x": "y" * 20_000}),
    ],
)
def test_a_bad_field_is_named_with_what_it_accepts(field: str, value: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        GenerationRequest(**{"prompt": "a castle", field: value})  # type: ignore[arg-type]
    assert caught.value.field == field
    assert caught.value.accepted
    assert field in caught.value.message


@pytest.mark.parametrize("fields", [{"determinism": "strict"}, {"output_format": "png"}])
def test_plain_text_does_not_pass_for_a_word(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        GenerationRequest("a castle", **fields)
    assert refused.value.field in fields
    assert next(iter(fields.values())) in refused.value.accepted
