"""Fifty wishes as a person might type them, written by hand and outside the caption grammar.

Each says what it means, so that pictures of it can be judged. Words are taken that the grammar lacks
wherever a person might take them: this measures what a reader's own words are worth.
"""

from __future__ import annotations

from typing import NamedTuple

from training.starter.words import LIGHT_OF
from training.starter.world import NONE, Scene, World


class Paraphrase(NamedTuple):
    """``place``, ``time`` and ``thing`` as in a scene; empty: it does not say."""

    text: str
    place: str
    time: str
    thing: str


PARAPHRASES: tuple[Paraphrase, ...] = (
    Paraphrase("the old castle stood alone in the hills, lit only by the moon", "hills", "night", "castle"),
    Paraphrase("draw me a fox walking through fresh snow as the sun comes up", "snow", "dawn", "fox"),
    Paraphrase("my dog loves running on the beach when the sun goes down", "beach", "sunset", "dog"),
    Paraphrase("a lonely astronaut floating between the stars", "space", "night", "astronaut"),
    Paraphrase("could you show a sailboat out at sea in the middle of the night?", "ocean", "night", "sailboat"),
    Paraphrase("it is noon and a camel crosses the hot desert", "desert", "day", "camel"),
    Paraphrase("an elephant, evening light, endless sand dunes", "desert", "sunset", "elephant"),
    Paraphrase("bright sunny day, a rabbit hopping about in a meadow full of flowers", "meadow", "day", "rabbit"),
    Paraphrase("a little house deep in the forest, first light of the morning", "forest", "dawn", "house"),
    Paraphrase("wizard conjuring in the dark woods by night", "forest", "night", "wizard"),
    Paraphrase("the bus drives through town, grey clouds above, a storm is coming", "city", "storm", "bus"),
    Paraphrase("skyscrapers behind a red car, sun setting", "city", "sunset", "car"),
    Paraphrase("hot air balloon high up in the blue daytime sky", "sky", "day", "balloon"),
    Paraphrase("an owl awake at midnight among the pines", "forest", "night", "owl"),
    Paraphrase("penguin family outing: one penguin on the ice in broad daylight", "snow", "day", "penguin"),
    Paraphrase("a whale surfacing in the open sea at daybreak, at dawn", "ocean", "dawn", "whale"),
    Paraphrase("a train crossing the mountains during a stormy afternoon", "mountains", "storm", "train"),
    Paraphrase("camping: a tent with mountains all around, at night", "mountains", "night", "tent"),
    Paraphrase("sunrise over the sea shore, one palm tree in the sand of the beach", "beach", "dawn", "palm tree"),
    Paraphrase("a scary ghost haunting the city at midnight", "city", "night", "ghost"),
    Paraphrase("someone built a snowman; it is snowy and the sky is dark, night", "snow", "night", "snowman"),
    Paraphrase("cactus, desert, noon", "desert", "day", "cactus"),
    Paraphrase("a rocket on its way through outer space", "space", "night", "rocket"),
    Paraphrase("dragon above the clouds in the evening, at sunset", "sky", "sunset", "dragon"),
    Paraphrase("a cow that grazes on green hills in the sunshine, by day", "hills", "day", "cow"),
    Paraphrase("sheep on the hills as the storm rolls in", "hills", "storm", "sheep"),
    Paraphrase("a unicorn in a flower meadow, sunset colours everywhere", "meadow", "sunset", "unicorn"),
    Paraphrase("turtle crawling to the sea over the sand, at night", "beach", "night", "turtle"),
    Paraphrase("the bear woke up early this morning in the woods, at sunrise", "forest", "dawn", "bear"),
    Paraphrase("robot lost in the desert in a thunder storm", "desert", "storm", "robot"),
    Paraphrase("view of a beach without anybody on it, the sun is setting", "beach", "sunset", NONE),
    Paraphrase("nothing but mountains in the early morning", "mountains", "dawn", NONE),
    Paraphrase("city lights at night, empty streets", "city", "night", NONE),
    Paraphrase("a wide forest seen on a bright sunny day", "forest", "day", NONE),
    Paraphrase("waves on the ocean while a storm is raging", "ocean", "storm", NONE),
    Paraphrase("sand dunes as far as you can see, at dusk", "desert", "sunset", NONE),
    Paraphrase("calm winter evening: snow and a setting sun, at sunset", "snow", "sunset", NONE),
    Paraphrase("flowers and more flowers, a meadow in the morning at dawn", "meadow", "dawn", NONE),
    Paraphrase("how does a cat in the mountains look by day?", "mountains", "day", "cat"),
    Paraphrase("butterfly over a field of flowers on a sunny afternoon", "meadow", "day", "butterfly"),
    Paraphrase("a lighthouse keeps watch over the stormy ocean", "ocean", "storm", "lighthouse"),
    Paraphrase("a shark gliding past the coral reef", "underwater", "", "shark"),
    Paraphrase("tractor at work on the farm while it rains", "farm", "rain", "tractor"),
    Paraphrase("a wolf steps out of the fog between the trees of the forest", "forest", "fog", "wolf"),
    Paraphrase("castle on a mountain, the whole sky purple", "mountains", "purple", "castle"),
    Paraphrase("rainy day in the big city, somebody left an umbrella", "city", "rain", "umbrella"),
    Paraphrase("a chicken and nothing else on the farm at sunrise", "farm", "dawn", "chicken"),
    Paraphrase("treasure hunters would like this: a pirate ship under a violet sky at sea", "ocean", "purple", "pirate ship"),
    Paraphrase("t'is the season: a christmas tree in deep snow at night", "snow", "night", "christmas tree"),
    Paraphrase("an alien came to visit the farm at midnight", "farm", "night", "alien"),
)  # fmt: skip


def judged(world: World) -> list[tuple[Paraphrase, Scene]]:
    """Those whose classes the world knows, each with what it shows; an unsaid time is the place's."""
    found = []
    for wish in PARAPHRASES:
        known = wish.place in world.places and wish.thing in (*world.things, NONE)
        time = wish.time or LIGHT_OF.get(wish.place, "")
        if known and (time in world.times or wish.place in LIGHT_OF):
            found.append((wish, Scene(wish.place, time, wish.thing, 0)))
    return found
