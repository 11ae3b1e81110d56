from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.core.errors import InvalidRequest
from sfumato.core.extras import MAX_LORAS, LoraUse, wanted_loras
from sfumato.core.prompts import prompt_notes
from sfumato.core.request import GenerationRequest

NAMES = st.sampled_from(["ink", "dark night", "x-1"])
#: Halves add up without rounding.
WEIGHTS = st.integers(-2, 2).map(lambda half: half / 2)


def wanted(prompt: str, *loras: LoraUse) -> tuple[LoraUse, ...]:
    return wanted_loras(GenerationRequest(prompt, loras=loras))


def test_a_mention_has_a_weight_of_one_unless_it_says_so() -> None:
    assert wanted("a <lora:ink> b <lyco:dark:-0.5>") == (LoraUse("ink"), LoraUse("dark", -0.5))
    assert wanted("a castle") == ()


def test_the_text_encoders_weight_comes_first_as_in_a1111() -> None:
    assert wanted("a <lora:ink:0.5:0.8>") == (LoraUse("ink", 0.8, 0.5),)
    assert wanted("a <lora:ink:0.5:unet=1>") == (LoraUse("ink", 1.0, 0.5),)
    assert wanted("a <lora:ink:te=0:unet=1>") == (LoraUse("ink", 1.0, 0.0),)
    assert wanted("a <lora:ink:te=0.7>") == (LoraUse("ink", 0.7),)


def test_what_adds_up_to_nothing_is_left_out() -> None:
    assert wanted("a <lora:ink:0>") == ()
    assert wanted("a <lora:ink:-1>", LoraUse("ink")) == ()


@given(st.lists(st.tuples(NAMES, WEIGHTS)), st.lists(st.tuples(NAMES, WEIGHTS), max_size=6))
def test_weights_add_up_by_name(
    mentions: list[tuple[str, float]], beside: list[tuple[str, float]]
) -> None:
    prompt = "a" + "".join(f"<lora:{name}:{weight}>" for name, weight in mentions)
    sums: dict[str, float] = {}
    for name, weight in (*beside, *mentions):
        sums[name] = sums.get(name, 0.0) + weight
    loras = [LoraUse(name, weight) for name, weight in beside]
    if any(abs(weight) > 10 for weight in sums.values()):
        with pytest.raises(InvalidRequest):
            wanted(prompt, *loras)
    else:
        expected = [LoraUse(name, weight) for name, weight in sums.items() if weight]
        assert list(wanted(prompt, *loras)) == expected


@pytest.mark.parametrize("mention", ["<lora:ink:1:0.5:4>", "<lora:ink:1:0.5:dyn=4>"])
def test_a_part_of_its_rank_is_not_taken_and_that_is_said(mention: str) -> None:
    assert wanted(f"a castle {mention}") == (LoraUse("ink", 0.5, 1.0),)
    (note,) = prompt_notes("prompt", f"a castle {mention}")
    assert mention in note


@pytest.mark.parametrize(
    "mention",
    ["<lora::1>", "<lora:ink:much>", "<lora:ink:nan>", "<lora:ink:1:1:4:2>", "<lora:ink:x=4>"],
)
def test_a_mention_that_can_not_be_read_is_refused(mention: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        wanted(f"a castle {mention}")
    assert refused.value.field == "prompt"


def test_there_are_not_too_many() -> None:
    prompt = "a" + "".join(f"<lora:ink{number}>" for number in range(MAX_LORAS))
    assert len(wanted(prompt)) == MAX_LORAS
    with pytest.raises(InvalidRequest, match="17 LoRAs"):
        wanted(prompt, LoraUse("one more"))


def test_it_is_read_back_from_plain_data() -> None:
    request = GenerationRequest("a", loras=(LoraUse("ink", 0.5, 0.25),))
    assert GenerationRequest.from_dict(request.as_dict()) == request
    assert LoraUse.from_dict({"name": "ink", "weight": 2}).text == 2
