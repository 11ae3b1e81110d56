"""Reading JSON strictly."""

from __future__ import annotations

import dataclasses

import pytest

from sfumato.api.body import MAX_DEPTH, loads, parse
from sfumato.api.problems import InvalidJson
from sfumato.api.requests import JobRequest
from sfumato.core.errors import InvalidRequest
from sfumato.core.request import GenerationRequest


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe{\x00}\x00",
        b'{"prompt": "caf\xe9"}',
        b"{'prompt': 'x'}",
        b'{"prompt": "x"',
        b'{"prompt": "x"} {}',
        b'{"prompt": "\\ud800"}',
        b'{"guidance_scale": NaN}',
        b'{"guidance_scale": -Infinity}',
        b"[" * 500_000,
        b'{"a":' * MAX_DEPTH + b"{}" + b"}" * MAX_DEPTH,
    ],
    ids=lambda body: repr(body[:24]),
)
def test_what_is_not_json_is_refused_as_that(body: bytes) -> None:
    with pytest.raises(InvalidJson):
        loads(body)


def test_a_refusal_does_not_quote_the_body() -> None:
    with pytest.raises(InvalidJson) as caught:
        loads(b'{"prompt": "my secret castle" oops')
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        (b"[]", None, "a list"),
        (b'"text"', None, "text"),
        (b"{}", "prompt", "missing"),
        (b'{"prompt": null}', "prompt", "missing"),
        (b'{"prompt": 7}', "prompt", "text"),
        (b'{"prompt": "x", "steps": 3}', "steps", "'num_inference_steps'"),
        (b'{"prompt": "x", "widht": 64}', "widht", "'width'"),
        (b'{"prompt": "x", "width": "64"}', "width", "whole number, not text"),
        (b'{"prompt": "x", "width": true}', "width", "whole number, not true or false"),
        (b'{"prompt": "x", "num_images": 1.5}', "num_images", "fraction"),
        (b'{"prompt": "x", "guidance_scale": "7"}', "guidance_scale", "a number, not text"),
        (b'{"prompt": "x", "seed": "12a"}', "seed", "whole number"),
        (b'{"prompt": "x", "model": 5}', "model", "text, not a number"),
        (b'{"prompt": "x", "model": "' + b"m" * 201 + b'"}', "model", "200"),
        (b'{"prompt": "x", "output_format": "gif"}', "output_format", "'webp'"),
        (b'{"prompt": "x", "metadata": []}', "metadata", "object, not a list"),
    ],
)
def test_a_wrong_field_is_named_with_what_would_be_right(
    body: bytes, field: str | None, words: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(JobRequest, body)
    assert caught.value.field == field
    assert words in caught.value.message
    assert caught.value.accepted


@pytest.mark.parametrize("seed", [b"18446744073709551615", b'"18446744073709551615"'])
def test_a_seed_keeps_its_64_bits(seed: bytes) -> None:
    request = parse(JobRequest, b'{"prompt": "x", "seed": ' + seed + b"}").to_core()
    assert request.seed == 2**64 - 1


def test_a_seed_of_65_bits_is_not_rounded_into_range() -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(JobRequest, b'{"prompt": "x", "seed": 18446744073709551616}').to_core()
    assert caught.value.field == "seed"


def test_a_whole_number_may_be_written_with_a_point_and_null_means_left_out() -> None:
    request = parse(JobRequest, b'{"prompt": "x", "num_images": 2.0, "sampler": null}').to_core()
    assert request == GenerationRequest("x", num_images=2)


def test_the_wire_has_the_fields_of_the_core() -> None:
    names = [field.name for field in dataclasses.fields(GenerationRequest)]
    assert list(JobRequest.model_fields) == [*names, "webhook"]
    assert JobRequest(prompt="x").to_core() == GenerationRequest("x")
