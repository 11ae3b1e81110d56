"""The closed world: which scenes there are, which of them training never shows, and a part of it.

A :class:`World` is the tables of :mod:`.words`, or what a model of an older vocabulary knows of
them: weights are judged by the words that they were taught, and trained on all.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from training.starter.words import (
    COLOURS,
    FLAT,
    LANDSCAPES,
    LIGHT_OF,
    OBJECTS,
    PLACES,
    STYLES,
    TIMES,
    Thing,
)

#: Share of (place, time, object) triples that no training scene may show.
HELD_OUT_PERCENT = 10

#: Scenes whose object stands alone on a plain ground have this place and no time.
PLAIN = "plain"
NONE = "none"

WORD = re.compile(r"[a-z]+")


@dataclass(frozen=True)
class Scene:
    """What one picture shows.

    Attributes:
        place: may be PLAIN.
        time: hour or weather; NONE on a plain ground.
        thing: the object; NONE: the place alone.
        colour: of the object; empty: its own.
    """

    place: str
    time: str
    thing: str
    seed: int
    style: str = FLAT
    colour: str = ""


@dataclass(frozen=True)
class World:
    """Classes with their phrases, as in :mod:`.words`.

    Attributes:
        words: all that captions may say; None: whatever the tables do.
    """

    places: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: PLACES)
    landscapes: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: LANDSCAPES)
    times: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: TIMES)
    things: Mapping[str, Thing] = field(default_factory=lambda: OBJECTS)
    styles: tuple[str, ...] = tuple(STYLES)
    colours: tuple[str, ...] = tuple(COLOURS)
    words: frozenset[str] | None = None

    def says(self, phrase: str) -> bool:
        """Whether each of the phrase's words is known."""
        return self.words is None or self.words.issuperset(WORD.findall(phrase.lower()))

    def sayable(self, phrases: Iterable[str]) -> tuple[str, ...]:
        return tuple(phrase for phrase in phrases if self.says(phrase))

    def known_to(self, card: Mapping[str, Any]) -> World:
        """What of this world a model knows.

        Args:
            card: its ``sfumato.json``: ``vocabulary`` are the words that it was taught, ``world``
                the classes.
        """
        known = replace(self, words=frozenset(card["vocabulary"]))
        taught = {kind: frozenset(names) for kind, names in card["world"].items()}

        def of(table: Mapping[str, tuple[str, ...]], kind: str) -> dict[str, tuple[str, ...]]:
            return {
                name: known.sayable(phrases)
                for name, phrases in table.items()
                if name in taught[kind]
            }

        return replace(
            known,
            places=of(self.places, "places"),
            landscapes=of(self.landscapes, "places"),
            times=of(self.times, "times"),
            things={
                name: replace(thing, words=known.sayable(thing.words))
                for name, thing in self.things.items()
                if name in taught["objects"]
            },
            styles=tuple(name for name in self.styles if name in taught["styles"]),
            colours=tuple(name for name in self.colours if name in taught["colours"]),
        )

    def classes(self) -> dict[str, list[str]]:
        """``world`` of a model's card."""
        return {
            "places": list(self.places),
            "times": list(self.times),
            "objects": list(self.things),
            "styles": list(self.styles),
            "colours": list(self.colours),
        }

    def times_of(self, place: str) -> tuple[str, ...]:
        """Some places have no weather: all of their pictures have one light."""
        return (LIGHT_OF[place],) if place in LIGHT_OF else tuple(self.times)

    def triples(self, *, held_out: bool) -> list[tuple[str, str, str]]:
        """All (place, time, object) combinations on one side of the split, in table order."""
        return [
            (place, time, thing)
            for place in self.places
            for time in self.times_of(place)
            for thing in self.things
            if is_held_out(place, time, thing) == held_out
        ]


WORLD = World()


def is_held_out(place: str, time: str, thing: str) -> bool:
    """Whether training must not show this triple. A hash, so no list needs to be kept."""
    if place == PLAIN or thing == NONE:
        return False
    digest = hashlib.sha256(f"{place}|{time}|{thing}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < HELD_OUT_PERCENT


def sample_scene(
    rng: random.Random,
    world: World = WORLD,
    *,
    empty: float = 0.08,
    plain: float = 0.08,
    styled: float = 0.15,
    coloured: float = 0.12,
) -> Scene:
    """Draw a training scene.

    Args:
        empty, plain: the shares without object and without place.
        styled, coloured: the shares in another style, and of an object in another colour.
    """
    seed = rng.getrandbits(32)
    things = tuple(world.things)
    style = rng.choice(world.styles[1:]) if world.styles[1:] and rng.random() < styled else FLAT
    colour = rng.choice(world.colours) if world.colours and rng.random() < coloured else ""
    if style == "pencil":
        colour = ""
    roll = rng.random()
    if roll < plain:
        return Scene(PLAIN, NONE, rng.choice(things), seed, style, colour)
    place = rng.choice(tuple(world.places))
    if place in LIGHT_OF and rng.random() < 0.4:
        # One light only, so it would be seen far oftener per combination.
        place = rng.choice(tuple(world.places))
    time = rng.choice(world.times_of(place))
    # The bare sky is a common wish and the hardest to tell from an object far away.
    if roll < plain + empty * (3 if place == "sky" else 1):
        return Scene(place, time, NONE, seed, style)
    thing = rng.choice(things)
    while is_held_out(place, time, thing):
        thing = rng.choice(things)
    return Scene(place, time, thing, seed, style, colour)
