"""The caption grammar: what a person might type for a scene."""

from __future__ import annotations

import random
import re

from training.starter.words import FLAT, LIGHT_OF, STYLES, TIME_ADJECTIVES
from training.starter.world import NONE, PLAIN, WORD, WORLD, Scene, World

#: Words people add that do not change these pictures.
ADJECTIVES = ("beautiful", "large", "big", "lovely", "nice", "cute", "colorful", "pretty", "small")
PREFIXES = ("a picture of ", "a drawing of ", "an image of ", "a scene of ")
SUFFIXES = (", detailed", ", high quality", ", beautiful")
PLAIN_GROUNDS = ("", "", "", " on a plain background", " on a white background", ", icon")


def article(phrase: str) -> str:
    """``phrase`` with "a" or "an" before it."""
    return ("an " if phrase[0] in "aeiou" and not phrase.startswith("uni") else "a ") + phrase


def caption(scene: Scene, rng: random.Random, world: World = WORLD, *, empty: float = 0.1) -> str:
    """One of the many ways to ask for ``scene`` in words of ``world``.

    Args:
        empty: the share of empty captions, for guidance.
    """
    if rng.random() < empty:
        return ""
    return _Speaker(scene, rng, world).sentence()


def plain_caption(place: str, time: str, thing: str, world: World = WORLD) -> str:
    """The canonical caption of a combination, for contact sheets and documents."""
    when = "" if place in LIGHT_OF else " " + world.times[time][0]
    return f"{article(thing)} {world.places[place][0]}{when}"


class _Speaker:
    """The choices of one caption."""

    def __init__(self, scene: Scene, rng: random.Random, world: World) -> None:
        self.scene, self.rng, self.world = scene, rng, world
        # Every other style must be said, once; how things are drawn anyway may be.
        said = scene.style != FLAT or rng.random() < 0.25
        self.style_as = rng.choice(("prefix", "adjective", "suffix")) if said else ""

    def sentence(self) -> str:
        scene, rng = self.scene, self.rng
        if scene.place == PLAIN:
            return self._dress(self._object() + self._pick(PLAIN_GROUNDS))
        say_time = scene.place not in LIGHT_OF
        say_time &= rng.random() >= (0.35 if scene.time == "day" else 0.04)
        when = rng.choice(self.world.times[scene.time]) if say_time else ""
        if scene.thing == NONE:
            if self.style_as == "adjective":
                self.style_as = "suffix"
            if when and rng.random() < 0.4:
                return self._dress(self._landscape(scene.time))
            return self._dress(self._join(self._landscape(NONE), when))
        thing = self._object()
        if rng.random() < 0.15:
            return self._dress(self._join(f"{self._landscape(NONE)} with {thing}", when))
        where = rng.choice(self.world.places[scene.place])
        order = rng.random()
        if when and order < 0.15:
            body = f"{thing} {when} {where}"
        elif when and order < 0.25:
            body = f"{when}, {thing} {where}"
        elif order < 0.32:
            body = ", ".join(filter(None, (thing, where.split(" ", 1)[-1], when)))
        else:
            body = " ".join(filter(None, (thing, where, when)))
        return self._dress(body)

    def _pick(self, phrases: tuple[str, ...]) -> str:
        known = self.world.sayable(phrases)
        return self.rng.choice(known) if known else ""

    def _object(self) -> str:
        rng, words = self.rng, self.world.things[self.scene.thing].words
        word = words[0] if rng.random() < 0.65 else rng.choice(words)
        parts = [self._pick(ADJECTIVES)] if rng.random() < 0.25 else []
        if self.style_as == "adjective":
            parts.append(self._pick(STYLES[self.scene.style].adjectives))
        text = " ".join(filter(None, (*parts, self.scene.colour, word)))
        return text if rng.random() < 0.1 else article(text)

    def _landscape(self, time: str) -> str:
        """ "a sandy beach", with an adjective between article and noun now and then.

        A time gives its adjective ("a clear night sky") instead of a phrase at the end.
        """
        phrase = self.rng.choice(self.world.landscapes[self.scene.place])
        extra = TIME_ADJECTIVES[time] if time != NONE else ""
        lead = self._pick(ADJECTIVES) if self.rng.random() < 0.25 else ""
        head, _, rest = phrase.partition(" ")
        if head not in ("a", "an", "the"):
            return " ".join(filter(None, (lead, extra, phrase)))
        if extra and rest.count(" "):  # "clear sky" -> "clear night sky"
            first, _, last = rest.rpartition(" ")
            rest = f"{first} {extra} {last}"
        elif extra:
            rest = f"{extra} {rest}"
        rest = " ".join(filter(None, (lead, rest)))
        return f"the {rest}" if head == "the" else article(rest)

    def _join(self, body: str, when: str) -> str:
        return f"{body}{self.rng.choice((' ', ' ', ', '))}{when}" if when else body

    def _dress(self, body: str) -> str:
        style, rng = STYLES[self.scene.style], self.rng
        if self.style_as == "prefix":
            body = self._pick(style.prefixes) + body
        elif rng.random() < 0.08 and re.match("(a|an|the) ", body):
            body = self._pick(PREFIXES) + body
        if self.style_as == "suffix":
            return body + self._pick(style.suffixes)
        return body + self._pick(SUFFIXES) if rng.random() < 0.1 else body


def vocabulary(world: World = WORLD) -> list[str]:
    """Every single word a caption can use, and the objects' plurals, sorted, lower case."""
    texts: list[str] = ["a", "an", "the", "with", "of"]
    for table in (world.places, world.landscapes, world.times):
        texts += [phrase for phrases in table.values() for phrase in phrases]
    texts += TIME_ADJECTIVES.values()
    texts += [*ADJECTIVES, *PREFIXES, *SUFFIXES, *PLAIN_GROUNDS, *world.colours]
    for name in world.styles:
        style = STYLES[name]
        texts += [*style.prefixes, *style.adjectives, *style.suffixes]
    for thing in world.things.values():
        texts += [*thing.words, thing.plural]
        texts += [word if word.endswith("s") else word + "s" for word in thing.words[1:]]
    return sorted({word for text in texts for word in WORD.findall(text.lower())})
