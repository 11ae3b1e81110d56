"""The closed world the starter model knows: places, times of day, objects and their words.

Every table maps a class to the phrases a caption may use for it; the first phrase is the
canonical one. The judge scores classes, the captions speak phrases, so adding a synonym is
a change of one line here.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

#: Share of (place, time, object) triples that no training scene may show.
HELD_OUT_PERCENT = 10

#: place -> phrases that follow an object ("a castle ..."); the phrase carries its preposition.
PLACES: dict[str, tuple[str, ...]] = {
    "beach": ("on a beach", "at the beach", "on the sand by the sea", "at the seaside"),
    "ocean": ("in the ocean", "on the sea", "on the open water", "in the sea"),
    "mountains": ("in the mountains", "in front of mountains", "near snowy peaks"),
    "hills": ("in the hills", "on green hills", "among rolling hills"),
    "desert": ("in the desert", "among sand dunes", "in a dry desert"),
    "snow": ("in the snow", "in winter", "in a snowy field"),
    "city": ("in a city", "in front of a skyline", "in the city", "downtown"),
    "forest": ("in a forest", "in the woods", "among pine trees"),
    "meadow": ("in a flower meadow", "in a meadow", "in a field of flowers"),
    "space": ("in outer space", "in space", "among the stars", "in front of a starry background"),
    "sky": ("in the sky", "in the air", "up in the sky"),
}

#: place -> noun phrases for a picture of the place alone, or before "with a castle".
LANDSCAPES: dict[str, tuple[str, ...]] = {
    "beach": ("a beach", "a sandy beach", "the seaside"),
    "ocean": ("the ocean", "the sea", "open water"),
    "mountains": ("mountains", "a mountain landscape", "snowy peaks"),
    "hills": ("green hills", "rolling hills", "a hill landscape"),
    "desert": ("a desert", "sand dunes", "a dry desert"),
    "snow": ("a snowy landscape", "a winter landscape", "a snowy field"),
    "city": ("a city", "a city skyline", "a skyline"),
    "forest": ("a forest", "pine woods", "the woods"),
    "meadow": ("a meadow", "a flower meadow", "a field of flowers"),
    "space": ("outer space", "space", "the stars"),
    "sky": ("the sky", "a sky", "a clear sky"),
}

TIMES: dict[str, tuple[str, ...]] = {
    "day": ("by day", "on a sunny day", "in daylight", "during the day"),
    "sunset": ("at sunset", "during sunset", "at dusk", "in the evening"),
    "night": ("at night", "by night", "under the moon", "at midnight"),
    "dawn": ("at dawn", "at sunrise", "in the early morning"),
    "storm": ("in a storm", "under grey clouds", "on a stormy day", "under a grey sky"),
}

#: time -> adjectives that may stand before a landscape ("a clear night sky").
TIME_ADJECTIVES: dict[str, str] = {
    "day": "sunny",
    "sunset": "sunset",
    "night": "night",
    "dawn": "morning",
    "storm": "stormy",
}


@dataclass(frozen=True)
class Thing:
    """An object word: its phrases, plural, and the name of its picture in an art set."""

    words: tuple[str, ...]
    icon: str
    plural: str


def _thing(words: str, icon: str = "", plural: str = "") -> Thing:
    names = tuple(words.split("|"))
    return Thing(names, icon or names[0].replace(" ", "-"), plural or names[0] + "s")


#: Icon names are those of the Iconify packaging of the Unicode emoji, but for the dwarf.
OBJECTS: dict[str, Thing] = {
    t.words[0]: t
    for t in (
        _thing("castle|scottish castle|fortress"),
        _thing("palm tree|palm"),
        _thing("house|cottage|home"),
        _thing("tree|oak", "deciduous-tree"),
        _thing("dog|puppy"),
        _thing("cat|kitten"),
        _thing("horse|pony"),
        _thing("cow"),
        _thing("sheep", "ewe", "sheep"),
        _thing("pig|piglet"),
        _thing("rabbit|bunny"),
        _thing("fox", "", "foxes"),
        _thing("lion"),
        _thing("elephant"),
        _thing("bear"),
        _thing("penguin"),
        _thing("owl"),
        _thing("duck"),
        _thing("whale", "spouting-whale"),
        _thing("octopus", "", "octopuses"),
        _thing("turtle|tortoise"),
        _thing("frog"),
        _thing("butterfly", "", "butterflies"),
        _thing("dragon"),
        _thing("unicorn"),
        _thing("robot"),
        _thing("astronaut|spaceman"),
        _thing("wizard|mage", "man-mage"),
        _thing("dwarf", "game-icons:dwarf-face", "dwarves"),
        _thing("car|automobile", "automobile"),
        _thing("bus", "", "buses"),
        _thing("train|locomotive", "locomotive"),
        _thing("sailboat|boat"),
        _thing("rocket|spaceship"),
        _thing("balloon"),
        _thing("tent"),
        _thing("snowman", "", "snowmen"),
        _thing("ghost"),
        _thing("cactus", "", "cacti"),
        _thing("mushroom"),
        _thing("sunflower"),
        _thing("apple", "red-apple"),
    )
}

#: Scenes whose object stands alone on a plain ground have this place and no time.
PLAIN = "plain"
NONE = "none"


@dataclass(frozen=True)
class Scene:
    """What one picture shows. ``place`` may be PLAIN, ``time`` and ``thing`` may be NONE."""

    place: str
    time: str
    thing: str
    seed: int


def is_held_out(place: str, time: str, thing: str) -> bool:
    """Whether training must not show this triple. A hash, so no list needs to be kept."""
    if place == PLAIN or thing == NONE:
        return False
    digest = hashlib.sha256(f"{place}|{time}|{thing}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < HELD_OUT_PERCENT


def times_of(place: str) -> tuple[str, ...]:
    """Space has no weather: its pictures are all night."""
    return ("night",) if place == "space" else tuple(TIMES)


def triples(*, held_out: bool) -> list[tuple[str, str, str]]:
    """All (place, time, object) combinations on one side of the split, in table order."""
    return [
        (place, time, thing)
        for place in PLACES
        for time in times_of(place)
        for thing in OBJECTS
        if is_held_out(place, time, thing) == held_out
    ]


def sample_scene(rng: random.Random, *, empty: float = 0.08, plain: float = 0.12) -> Scene:
    """Draw a training scene; ``empty`` and ``plain`` are the shares without object or place."""
    seed = rng.getrandbits(32)
    roll = rng.random()
    if roll < plain:
        return Scene(PLAIN, NONE, rng.choice(tuple(OBJECTS)), seed)
    place = rng.choice(tuple(PLACES))
    if place == "space" and rng.random() < 0.4:
        # One time of day only, so it would be seen five times as often per combination.
        place = rng.choice(tuple(PLACES))
    time = rng.choice(times_of(place))
    # The bare sky is a common wish and the hardest to tell from an object far away.
    if roll < plain + empty * (3 if place == "sky" else 1):
        return Scene(place, time, NONE, seed)
    allowed = [name for name in OBJECTS if not is_held_out(place, time, name)]
    return Scene(place, time, rng.choice(allowed), seed)
