from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.core.prompts import Break, Weighted, parse_emphasis, prompt_notes

SYNTAX = st.text(alphabet="ab01.:()[]\\ -BREAK", max_size=60)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("normal text", [("normal text", 1.0)]),
        ("an (important) word", [("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
        ("(unbalanced", [("unbalanced", 1.1)]),
        (r"\(literal\]", [("(literal]", 1.0)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            [
                ("a ", 1.0),
                ("house", 1.573),
                (" ", 1.1),
                ("on", 1.0),
                (" a ", 1.1),
                ("hill", 0.55),
                (", sun, ", 1.1),
                ("sky", 1.4641),
                (".", 1.1),
            ],
        ),
        ("[x]", [("x", 1 / 1.1)]),
        ("((x))", [("x", 1.21)]),
        ("(x:-0.5)", [("x", -0.5)]),
        ("(x: 1.3 )", [("x", 1.3)]),
        ("(x:1.2.3)", [("x:1.2.3", 1.1)]),
        ("x:1.3)", [("x:1.3)", 1.0)]),
        ("x) y]", [("x) y]", 1.0)]),
        (r"a\\b\c", [("a\\bc", 1.0)]),
        ("(a [b) c]", [("a ", 1.1), ("b", 1.0), (" c", 1 / 1.1)]),
        ("(x:9999)", [("x", 100.0)]),
        ("", []),
        ("()", []),
        ("16:9, 3:30", [("16:9, 3:30", 1.0)]),
    ],
)
def test_brackets_weigh(text: str, expected: list[tuple[str, float]]) -> None:
    runs = parse_emphasis(text)
    assert all(isinstance(run, Weighted) for run in runs)
    assert [run.text for run in runs] == [text for text, _ in expected]
    assert [run.weight for run in runs] == pytest.approx([weight for _, weight in expected])


def test_break_ends_a_chunk_wherever_it_stands() -> None:
    assert parse_emphasis("a BREAK b") == [Weighted("a "), Break(), Weighted(" b")]
    assert parse_emphasis("(a BREAK b)") == [Weighted("a ", 1.1), Break(), Weighted(" b", 1.1)]
    assert parse_emphasis("BREAKER break") == [Weighted("BREAKER break")]
    assert parse_emphasis("BREAK BREAK").count(Break()) == 2


@given(st.one_of(SYNTAX, st.text(max_size=60)))
def test_no_text_is_an_error_and_every_weight_is_finite(text: str) -> None:
    runs = parse_emphasis(text)
    weighted = [run for run in runs if isinstance(run, Weighted)]
    assert all(math.isfinite(run.weight) and run.text for run in weighted)
    for one, two in itertools.pairwise(runs):
        assert isinstance(one, Break) or isinstance(two, Break) or one.weight != two.weight
    list(prompt_notes("prompt", text))


@given(st.text(alphabet="abc ,'é\n1.:", max_size=60))
def test_plain_text_weighs_one(text: str) -> None:
    assert parse_emphasis(text) == ([Weighted(text)] if text else [])


def _joined(parts: tuple) -> tuple[list[tuple[str, float]], str]:
    (one, first), (two, second), how = parts
    factor = {"()": 1.1, "[]": 1 / 1.1, "2": 2.0, "": 1.0}[how]
    text = {"()": "({})", "[]": "[{}]", "2": "({}:2)", "": "{}"}[how].format(first + second)
    return [(text, weight * factor) for text, weight in one + two], text


NESTED = st.recursive(
    st.text(alphabet="abc ", min_size=1, max_size=4).map(lambda text: ([(text, 1.0)], text)),
    lambda inner: st.tuples(inner, inner, st.sampled_from(["()", "[]", "2", ""])).map(_joined),
    max_leaves=8,
)


@given(NESTED)
def test_nested_weights_multiply(built: tuple[list[tuple[str, float]], str]) -> None:
    expected, text = built
    letters = [(letter, weight) for part, weight in expected for letter in part]
    runs = [run for run in parse_emphasis(text) if isinstance(run, Weighted)]
    read = [(letter, run.weight) for run in runs for letter in run.text]
    assert [letter for letter, _ in read] == [letter for letter, _ in letters]
    assert [weight for _, weight in read] == pytest.approx([weight for _, weight in letters])


@pytest.mark.parametrize(
    "text", ["(a" * 10_000, ")" * 20_000, "(a" * 4_000 + ":1.1)" * 2_400, ":" + "1" * 19_999]
)
def test_brackets_without_end_are_read_without_recursion(text: str) -> None:
    assert all(math.isfinite(run.weight) for run in parse_emphasis(text))


def test_brackets_without_a_partner_are_told() -> None:
    assert list(prompt_notes("prompt", r"(a) [b:c:0.5] \( (d:1.2)")) == []
    (note,) = prompt_notes("prompt", "a) b")
    assert note.startswith("one bracket of the prompt has no partner: ")
    (note,) = prompt_notes("negative prompt", "((a [b] x:1.2) ]]")
    assert note.startswith("3 brackets of the negative prompt have no partners")
