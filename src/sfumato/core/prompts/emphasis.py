"""How much each part of a text counts: ``(x)``, ``(x:1.3)``, ``[x]``, and ``BREAK`` between chunks.

Round brackets multiply by 1.1 or by their number, square ones divide by 1.1; nested ones multiply.
As in A1111 the two kinds pair without regard to each other, one that is never closed reaches to
the end, a closing one without a partner is text, and a backslash makes the next mark text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_ROUND, _SQUARE = 1.1, 1 / 1.1
#: Beyond it a weighed embedding leaves the range of half precision.
_MOST = 100.0
_MARKS = re.compile(
    r"\\[()\[\]\\]|\\|[(\[\])]|:\s*(?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*\)|[^\\()\[\]:]+|:"
)
_BREAK = re.compile(r"\bBREAK\b")


@dataclass(frozen=True, slots=True)
class Weighted:
    """A run of text of one weight."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Break:
    """The end of a chunk, whatever room it has left."""


@dataclass(slots=True)
class _Mark:
    """A bracket that weighs what follows. ``factor``: None for a closing one."""

    kind: str
    factor: float | None


def parse_emphasis(text: str) -> list[Weighted | Break]:
    """The runs of a text. Neighbours of equal weight are one; an empty text has none."""
    runs: list[Weighted | Break] = []
    held: list[str] = []
    #: For each kind of bracket, the product of those open, innermost last.
    weights: dict[str, list[float]] = {"(": [1.0], "[": [1.0]}
    weight = 1.0

    def end_run() -> None:
        if joined := "".join(held):
            runs.append(Weighted(joined, weight))
        held.clear()

    for token in _tokens(text):
        if isinstance(token, str):
            held.append(token)
            continue
        if isinstance(token, Break):
            end_run()
            runs.append(token)
            continue
        stack = weights[token.kind]
        if token.factor is None:
            stack.pop()
        else:
            stack.append(_bounded(stack[-1] * token.factor))
        now = _bounded(weights["("][-1] * weights["["][-1])
        if now != weight:
            end_run()
            weight = now
    end_run()
    return _merged(runs)


def unpaired_brackets(text: str) -> int:
    """How many brackets have no partner."""
    depth, unpaired = {"(": 0, "[": 0}, 0
    for match in _MARKS.finditer(text):
        mark = ")" if match.group("number") is not None else match.group()
        if mark in depth:
            depth[mark] += 1
        elif mark in (")", "]"):
            kind = "(" if mark == ")" else "["
            unpaired += depth[kind] == 0
            depth[kind] = max(0, depth[kind] - 1)
    return unpaired + sum(depth.values())


def _tokens(text: str) -> Iterator[str | Break | _Mark]:
    """Text, breaks and brackets; an opening bracket has its factor, which its partner may name."""
    tokens: list[str | Break | _Mark] = []
    still_open: dict[str, list[_Mark]] = {"(": [], "[": []}
    for match in _MARKS.finditer(text):
        mark, number = match.group(), match.group("number")
        kind = "(" if mark == ")" or number is not None else "["
        if mark.startswith("\\"):
            tokens.append(mark[1:])
        elif mark in ("(", "["):
            opening = _Mark(mark, _ROUND if mark == "(" else _SQUARE)
            still_open[mark].append(opening)
            tokens.append(opening)
        elif (mark in (")", "]") or number is not None) and still_open[kind]:
            opening = still_open[kind].pop()
            if number is not None:
                opening.factor = float(number)
            tokens.append(_Mark(kind, None))
        else:
            tokens += _broken(mark)
    return iter(tokens)


def _broken(text: str) -> Sequence[str | Break]:
    first, *others = _BREAK.split(text)
    parts: list[str | Break] = [first]
    for other in others:
        parts += [Break(), other]
    return parts


def _bounded(weight: float) -> float:
    return math.copysign(min(abs(weight), _MOST), weight)


def _merged(runs: Sequence[Weighted | Break]) -> list[Weighted | Break]:
    merged: list[Weighted | Break] = []
    for run in runs:
        last = merged[-1] if merged else None
        if isinstance(run, Weighted) and isinstance(last, Weighted) and last.weight == run.weight:
            merged[-1] = Weighted(last.text + run.text, run.weight)
        else:
            merged.append(run)
    return merged
