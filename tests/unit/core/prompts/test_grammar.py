from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.core.errors import InvalidRequest
from sfumato.core.prompts import Network, check_prompts, parse_prompt

PIECES = ["a", " ", ":", "1.5", "-2", "AND", "BREAK", "<lora:x:0.8>", "<", "lora:b>", *"()[]|\\"]
SYNTAX = st.lists(st.sampled_from(PIECES)).map("".join)


def test_and_joins_prompts_with_weights() -> None:
    prompt = parse_prompt("a cat :1.2 AND a dog: -0.5 AND [a:b:3] bird")
    parts = [(str(part.template), part.weight) for part in prompt.parts]
    assert parts == [("a cat", 1.2), ("a dog", -0.5), ("[a:b:3] bird", 1.0)]
    assert [str(part.template) for part in parse_prompt("SAND and HAND").parts] == ["SAND and HAND"]


def test_a_lone_prompt_may_end_in_a_number() -> None:
    (part,) = parse_prompt("a screen of 16:9").parts
    assert (str(part.template), part.weight) == ("a screen of 16:9", 1.0)


def test_networks_are_taken_out_and_handed_on() -> None:
    prompt = parse_prompt("a cat <lora:ink:0.8>, night<lora:dark><lyco:x:1:0.5>")
    assert prompt.networks == (
        Network("lora", "ink", ("0.8",)),
        Network("lora", "dark"),
        Network("lyco", "x", ("1", "0.5")),
    )
    assert [str(part.template) for part in prompt.parts] == ["a cat  , night"]
    assert parse_prompt("a <b:c> <https://x.y>").networks == ()


@given(st.one_of(SYNTAX, st.text(max_size=60)))
def test_a_printed_prompt_parses_to_the_same(text: str) -> None:
    prompt = parse_prompt(text)
    assert parse_prompt(str(prompt)) == prompt
    prompt.words()


def test_words_are_without_syntax() -> None:
    prompt = parse_prompt("a (cat:1.3) [red:blue:0.5] BREAK a dog :2 AND sky <lora:ink:1>")
    words = "".join(letter if letter.isalpha() else " " for letter in prompt.words()).split()
    assert words == ["a", "cat", "red", "blue", "a", "dog", "sky"]


@pytest.mark.parametrize(
    ("prompts", "field", "names"),
    [
        (("a <lora:dark> <hypernet:ink:0.8>", ""), "prompt", "names <hypernet:ink:0.8>, which"),
        (("a", "b <hypernet:x>"), "negative_prompt", "<hypernet:x>"),
        (("a", "b <lora:ink:0.8>"), "negative_prompt", "<lora:ink:0.8>"),
        ((" AND ".join("abcdefghi"), ""), "prompt", "9 prompts"),
    ],
)
def test_what_no_engine_can_follow_is_refused(
    prompts: tuple[str, str], field: str, names: str
) -> None:
    with pytest.raises(InvalidRequest, match=names) as refused:
        check_prompts(*prompts)
    assert refused.value.field == field


def test_all_else_is_accepted() -> None:
    check_prompts(" AND ".join("abcdefgh"), "c AND d")
    check_prompts("((((", "]]]]")
    check_prompts("a <lora:ink:0.8><lyco:x:1:0.5>", "")
