"""The caption grammar: what a person might type for a scene."""

from __future__ import annotations

import random
import re

from training.starter.world import (
    LANDSCAPES,
    NONE,
    OBJECTS,
    PLACES,
    PLAIN,
    TIME_ADJECTIVES,
    TIMES,
    Scene,
)

#: Words people add that do not change these pictures.
ADJECTIVES = ("beautiful", "large", "big", "lovely", "nice", "cute", "colorful", "pretty")
STYLES = ("cartoon", "flat")
PREFIXES = (
    "a picture of ",
    "a drawing of ",
    "an illustration of ",
    "an image of ",
    "a cartoon of ",
)
SUFFIXES = (", flat illustration", ", cartoon", ", cartoon style", ", illustration", ", detailed")
PLAIN_GROUNDS = ("", "", "", " on a plain background", " on a white background", ", icon")

_WORD = re.compile(r"[a-z]+")


def article(phrase: str) -> str:
    """``phrase`` with "a" or "an" before it."""
    return ("an " if phrase[0] in "aeiou" and not phrase.startswith("uni") else "a ") + phrase


def _adjectives(rng: random.Random) -> str:
    words = []
    if rng.random() < 0.25:
        words.append(rng.choice(ADJECTIVES))
    if rng.random() < 0.15:
        words.append(rng.choice(STYLES))
    return " ".join(words) + (" " if words else "")


def _object(scene: Scene, rng: random.Random) -> str:
    words = OBJECTS[scene.thing].words
    word = words[0] if rng.random() < 0.65 else rng.choice(words)
    text = _adjectives(rng) + word
    return text if rng.random() < 0.1 else article(text)


def _landscape(place: str, time: str, rng: random.Random) -> str:
    """ "a sandy beach", with an adjective between article and noun now and then.

    A time gives its adjective ("a clear night sky") instead of a phrase at the end.
    """
    phrase = rng.choice(LANDSCAPES[place])
    extra = TIME_ADJECTIVES[time] if time != NONE else ""
    lead = rng.choice(ADJECTIVES) if rng.random() < 0.25 else ""
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


def caption(scene: Scene, rng: random.Random, *, empty: float = 0.1) -> str:
    """One of the many ways to ask for ``scene``; ``empty`` is the share of empty captions."""
    if rng.random() < empty:
        return ""
    if scene.place == PLAIN:
        body = _object(scene, rng) + rng.choice(PLAIN_GROUNDS)
        if "cartoon" not in body and rng.random() < 0.4:
            body = "cartoon " + re.sub(r"^an? ", "", body)
            body = body if rng.random() < 0.5 else article(body)
        return _dress(body, rng)
    say_time = scene.place != "space" and rng.random() >= (0.35 if scene.time == "day" else 0.04)
    when = rng.choice(TIMES[scene.time]) if say_time else ""
    if scene.thing == NONE:
        if when and rng.random() < 0.4:
            return _dress(_landscape(scene.place, scene.time, rng), rng)
        return _dress(_join(rng, _landscape(scene.place, NONE, rng), when), rng)
    thing = _object(scene, rng)
    if rng.random() < 0.15:
        body = _join(rng, f"{_landscape(scene.place, NONE, rng)} with {thing}", when)
    else:
        where = rng.choice(PLACES[scene.place])
        order = rng.random()
        if when and order < 0.15:
            body = f"{thing} {when} {where}"
        elif when and order < 0.25:
            body = f"{when}, {thing} {where}"
        elif order < 0.32:
            body = ", ".join(filter(None, (thing, where.split(" ", 1)[-1], when)))
        else:
            body = " ".join(filter(None, (thing, where, when)))
    return _dress(body, rng)


def plain_caption(place: str, time: str, thing: str) -> str:
    """The canonical caption of a combination, for contact sheets and documents."""
    where = PLACES[place][0]
    when = "" if place == "space" else " " + TIMES[time][0]
    return f"{article(thing)} {where}{when}"


def _join(rng: random.Random, body: str, when: str) -> str:
    return f"{body}{rng.choice((' ', ' ', ', '))}{when}" if when else body


def _dress(body: str, rng: random.Random) -> str:
    if rng.random() < 0.08 and body.startswith(("a ", "an ", "the ")):
        body = rng.choice(PREFIXES) + body
    if rng.random() < 0.1:
        body += rng.choice(SUFFIXES)
    return body


def vocabulary() -> list[str]:
    """Every single word a caption can use, and the objects' plurals, sorted, lower case."""
    texts: list[str] = ["a", "an", "the", "with", "of"]
    for table in (PLACES, LANDSCAPES, TIMES):
        texts += [phrase for phrases in table.values() for phrase in phrases]
    texts += TIME_ADJECTIVES.values()
    texts += [*ADJECTIVES, *STYLES, *PREFIXES, *SUFFIXES, *PLAIN_GROUNDS]
    for thing in OBJECTS.values():
        texts += [*thing.words, thing.plural]
        texts += [word if word.endswith("s") else word + "s" for word in thing.words[1:]]
    return sorted({word for text in texts for word in _WORD.findall(text.lower())})
