"""Prompts that change with the step: ``[a:b:0.5]``, ``[a:0.5]``, ``[a::0.5]``, ``[a|b]``.

A group's brackets must pair, and so must all brackets within it; else its marks are text, as are
those of the groups around it, while groups that closed before stay what they are. So A1111's
grammar has it, which this reads without recursion: a template is flat, and to render it for a step
is to walk along its pieces, jumping over what is not chosen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

_PIECES = re.compile(r"(?:[^\\\[\]():|]|\\.)+|[\\\[\]():|]", re.DOTALL)
_NUMBER = re.compile(r"\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*")


@dataclass(frozen=True, slots=True)
class _Switch:
    """An opening bracket that chooses. ``starts``: where each of its texts begins.

    ``when``: the number of a change, as it was written; None for an alternation.
    """

    source: str
    starts: tuple[int, ...]
    when: str | None

    def start(self, step: int, steps: int) -> int:
        if self.when is None:
            return self.starts[(step - 1) % len(self.starts)]
        before, after = self.starts
        return before if step <= _last_step(self.when, steps) else after


@dataclass(frozen=True, slots=True)
class _Exit:
    """The end of one of a group's texts. ``to``: the piece after the group."""

    source: str
    to: int


_Piece = str | _Switch | _Exit


@dataclass(frozen=True, slots=True)
class Template:
    """A text with what it becomes at each step. Its ``str`` is the text as it was written."""

    _pieces: tuple[_Piece, ...]

    def __str__(self) -> str:
        return "".join(piece if isinstance(piece, str) else piece.source for piece in self._pieces)

    @property
    def changes(self) -> bool:
        return any(isinstance(piece, _Switch) for piece in self._pieces)

    def at(self, step: int, steps: int) -> str:
        """The text for a step, counted from 1, of ``steps``."""
        chosen, n = list[str](), 0
        while n < len(self._pieces):
            piece = self._pieces[n]
            if isinstance(piece, str):
                chosen.append(piece)
                n += 1
            else:
                n = piece.start(step, steps) if isinstance(piece, _Switch) else piece.to
        return "".join(chosen)

    def by_step(self, steps: int) -> tuple[str, ...]:
        """The text of every step, in order."""
        switches = [piece for piece in self._pieces if isinstance(piece, _Switch)]
        turns = {len(switch.starts) for switch in switches if switch.when is None}
        ends = {_last_step(switch.when, steps) for switch in switches if switch.when is not None}
        texts, known = list[str](), dict[tuple[int, ...], str]()
        for step in range(1, steps + 1):
            # What all choices follow from: whose turn it is, and how many changes are past.
            state = (sum(step > end for end in ends), *(step % turn for turn in turns))
            if state not in known:
                known[state] = self.at(step, steps)
            texts.append(known[state])
        return tuple(texts)

    def every_word(self) -> str:
        """The texts of all steps, one after the other, and no syntax of this module."""
        return "".join(piece if isinstance(piece, str) else " " for piece in self._pieces)


@dataclass(slots=True)
class _Group:
    """A bracket still open: its place among the pieces, and those of its ``:`` and ``|``."""

    place: int
    bracket: str
    colons: list[int] = field(default_factory=list)
    bars: list[int] = field(default_factory=list)


def parse_template(text: str) -> Template:
    """Every text is a template; one without syntax has itself at every step."""
    pieces: list[_Piece] = list(_PIECES.findall(text))
    open_groups: list[_Group] = []
    for place, piece in enumerate(list(pieces)):
        if piece in ("(", "["):
            open_groups.append(_Group(place, str(piece)))
        elif not open_groups:
            continue
        elif piece == ":":
            open_groups[-1].colons.append(place)
        elif piece == "|":
            open_groups[-1].bars.append(place)
        elif piece in (")", "]") and not _close(open_groups.pop(), place, pieces):
            # No group around this one can be whole any more: their marks are text.
            open_groups.clear()
        elif piece == "\\":
            open_groups.clear()
    return Template(tuple(pieces))


def _close(group: _Group, place: int, pieces: list[_Piece]) -> bool:
    """Close a group at ``place``; whether it may stand within another."""
    if pieces[place] == ")":
        return group.bracket == "(" and len(group.colons) <= 1 and not group.bars
    if group.bracket == "(" or (group.colons and group.bars):
        return False
    if group.bars:
        starts = (group.place + 1, *(bar + 1 for bar in group.bars))
        _choose(group, place, pieces, starts, exits=[*group.bars, place])
    elif group.colons:
        return _close_change(group, place, pieces)
    return True


def _close_change(group: _Group, place: int, pieces: list[_Piece]) -> bool:
    *between, last = group.colons
    number = pieces[last + 1]
    found = _NUMBER.fullmatch(number) if isinstance(number, str) else None
    if len(between) > 1 or place != last + 2 or found is None:
        return False
    begin = group.place + 1
    # With one text alone, that is what comes after: before, there is nothing.
    starts = (begin, between[0] + 1) if between else (last, begin)
    # Nobody walks along the number; what is no string is no text of the template.
    exits = [*group.colons, last + 1]
    _choose(group, place, pieces, starts, exits=exits, when=found.group(1))
    return True


def _choose(
    group: _Group,
    place: int,
    pieces: list[_Piece],
    starts: tuple[int, ...],
    *,
    exits: Sequence[int],
    when: str | None = None,
) -> None:
    pieces[group.place] = _Switch(str(pieces[group.place]), starts, when)
    for end in exits:
        pieces[end] = _Exit(str(pieces[end]), place + 1)


def _last_step(when: str, steps: int) -> int:
    """The last step with the text before the change: a number with a point is a share of all."""
    number = float(when) * (steps if "." in when else 1)
    return int(min(max(number, 0), steps))
