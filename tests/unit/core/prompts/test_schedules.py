"""The cases of A1111's own documentation and doctests, and what holds for every text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.core.prompts import parse_template

SYNTAX = st.text(alphabet="ab01.:|()[]\\ -", max_size=60)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("test", [(10, "test")]),
        ("a [b:3]", [(3, "a "), (10, "a b")]),
        ("a [b: 3]", [(3, "a "), (10, "a b")]),
        ("a [[[b]]:2]", [(2, "a "), (10, "a [[b]]")]),
        ("[(a:2):3]", [(3, ""), (10, "(a:2)")]),
        ("a [b : c : 1] d", [(1, "a b  d"), (10, "a  c  d")]),
        ("a[b:[c:d:2]:1]e", [(1, "abe"), (2, "ace"), (10, "ade")]),
        ("a [unbalanced", [(10, "a [unbalanced")]),
        ("a [b:.5] c", [(5, "a  c"), (10, "a b c")]),
        ("a [b::.5] c", [(5, "a b c"), (10, "a  c")]),
        ("((a][:b:c [d:3]", [(3, "((a][:b:c "), (10, "((a][:b:c d")]),
        ("[a:b:0]", [(10, "b")]),
        ("[a:b:-3]", [(10, "b")]),
        ("[a:b:1]", [(1, "a"), (10, "b")]),
        ("[a:b:1.0]", [(10, "a")]),
        ("[a:b:99]", [(10, "a")]),
        ("[a:b:1e999]", [(10, "a")]),
        ("[a:b:c:3]", [(10, "[a:b:c:3]")]),
        ("[a:b]", [(10, "[a:b]")]),
        ("[[a:b]:3]", [(10, "[[a:b]:3]")]),
        ("[a (b:3]", [(10, "[a (b:3]")]),
        (r"\[a:b:3\]", [(10, r"\[a:b:3\]")]),
        ("a | b [c:d:3]", [(3, "a | b c"), (10, "a | b d")]),
        ("[:a:3]", [(3, ""), (10, "a")]),
        ("[:3]", [(10, "")]),
    ],
)
def test_a_text_changes_after_a_step(text: str, expected: list[tuple[int, str]]) -> None:
    by_step = parse_template(text).by_step(10)
    ends = [n for n in range(1, 11) if n == 10 or by_step[n] != by_step[n - 1]]
    assert [(end, by_step[end - 1]) for end in ends] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a|(b:1.1)]", ["a", "(b:1.1)", "a", "(b:1.1)"]),
        ("[a|b|c] d", ["a d", "b d", "c d", "a d"]),
        ("[a|]", ["a", "", "a", ""]),
        ("[a|[b|c]]", ["a", "c", "a", "c"]),
        ("[a|[b:c:2]]", ["a", "b", "a", "c"]),
        ("[a|b:2]", ["[a|b:2]"] * 4),
    ],
)
def test_a_text_alternates(text: str, expected: list[str]) -> None:
    assert list(parse_template(text).by_step(4)) == expected


@given(st.one_of(SYNTAX, st.text(max_size=60)), st.integers(1, 12))
def test_every_text_is_a_template_and_prints_as_it_was_written(text: str, steps: int) -> None:
    template = parse_template(text)
    assert str(template) == text
    assert parse_template(str(template)) == template
    by_step = template.by_step(steps)
    assert by_step == tuple(template.at(step, steps) for step in range(1, steps + 1))
    if not template.changes:
        assert by_step == (text,) * steps


@given(st.text(alphabet="abc ,'\n", max_size=60))
def test_text_without_marks_is_itself(text: str) -> None:
    template = parse_template(text)
    assert not template.changes
    assert template.at(1, 1) == template.every_word() == text


def test_every_word_leaves_the_numbers_out() -> None:
    words = parse_template("a [red:blue:0.5] [x|y] (cat:3) [dog:7]").every_word().split()
    assert [word for word in words if word.isalnum()] == ["a", "red", "blue", "x", "y", "dog"]
    assert "0.5" not in "".join(words)
    assert "7" not in "".join(words)


@pytest.mark.parametrize(
    "text",
    ["[" * 20_000, "]" * 20_000, "[" * 6_000 + "a" + ":1]" * 6_000, "[a|" * 5_000 + "]" * 5_000],
)
def test_brackets_without_end_are_read_without_recursion(text: str) -> None:
    template = parse_template(text)
    assert len(template.by_step(4)) == 4
    assert str(template) == text
