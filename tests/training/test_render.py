"""The renderer, on a synthetic icon set: no art package is needed."""

import numpy as np
import pytest

from training.starter.art import Art, IconSet
from training.starter.render import draw
from training.starter.words import COLOURS, OBJECTS, PLACES, STYLES, TIMES
from training.starter.world import LIGHT_OF, NONE, PLAIN, Scene

SQUARE = '<path fill="#ff0000" d="M2 2h12v12H2z"/>'


@pytest.fixture(scope="module")
def art() -> Art:
    """Every object is a red square; aliases and a second set are there to be followed."""
    names = {thing.icon.rpartition(":")[2] for thing in OBJECTS.values()}
    square = {"body": SQUARE}
    main = {"icons": dict.fromkeys([*(names - {"castle"}), "fort"], square), "width": 16}
    main |= {"height": 16, "aliases": {"castle": {"parent": "fort"}}}
    return Art.from_sets({"main": IconSet(main), "game-icons": IconSet(main)})


def test_the_same_scene_is_the_same_picture(art: Art) -> None:
    scene = Scene("beach", "sunset", "castle", 42)
    np.testing.assert_array_equal(draw(scene, art), draw(scene, art))


def test_another_seed_is_another_picture(art: Art) -> None:
    one, two = (draw(Scene("city", "day", NONE, seed), art) for seed in (1, 2))
    assert (one != two).any()


@pytest.mark.parametrize("place", [*PLACES, PLAIN])
def test_every_place_draws_at_every_time(art: Art, place: str) -> None:
    for time in TIMES:
        pixels = draw(Scene(place, time, "dog", 7), art, size=64)
        assert pixels.shape == (64, 64, 3)
        assert pixels.dtype == np.uint8
        red = (pixels[..., 0] > 2 * pixels[..., 1].astype(int)) & (pixels[..., 0] > 60)
        assert red.sum() > 200, "the object is in the picture"


def test_night_is_darker_than_day(art: Art) -> None:
    for place in set(PLACES) - set(LIGHT_OF):
        night, day = (draw(Scene(place, t, NONE, 5), art).mean() for t in ("night", "day"))
        assert night < day / 2


@pytest.mark.parametrize("style", list(STYLES)[1:])
def test_a_style_changes_the_whole_picture_and_always_alike(art: Art, style: str) -> None:
    plain, drawn, again = (
        draw(Scene("beach", "day", "dog", 3, name), art).astype(int)
        for name in ("flat", style, style)
    )
    assert (drawn == again).all()
    assert np.abs(drawn - plain).mean() > 4
    others = (name for name in STYLES if name not in (style, "flat"))
    for other in others:
        elsewhere = draw(Scene("beach", "day", "dog", 3, other), art).astype(int)
        assert np.abs(drawn - elsewhere).mean() > 5


@pytest.mark.parametrize("colour", COLOURS)
def test_a_coloured_object_has_that_colour(art: Art, colour: str) -> None:
    centre = draw(Scene(PLAIN, "none", "dog", 3, "flat", colour), art)[60:68, 60:68]
    mean = centre.reshape(-1, 3).mean(axis=0)
    nearest = min(COLOURS, key=lambda name: np.abs(mean - np.array(COLOURS[name])).sum())
    assert nearest == colour


def test_rain_and_fog_lie_before_the_object(art: Art) -> None:
    def shades(weather: str) -> int:
        pixels = draw(Scene("hills", weather, "dog", 4), art).reshape(-1, 3).astype(int)
        return len(np.unique(pixels[pixels[:, 0] > 1.1 * pixels[:, 1]], axis=0))

    assert min(shades("rain"), shades("fog")) > 2 * shades("storm")


def test_missing_pictures_are_named() -> None:
    with pytest.raises(LookupError, match="castle"):
        Art.from_sets({"main": IconSet({"icons": {"dog": {"body": SQUARE}}})})
