"""The closed world: what training may show, and what captions may say."""

import random
import re

from training.starter.captions import caption, plain_caption, vocabulary
from training.starter.render import combination_scenes, training_scenes
from training.starter.world import NONE, OBJECTS, PLACES, PLAIN, Scene, is_held_out, triples


def test_training_never_shows_a_held_out_combination() -> None:
    scenes = training_scenes(5_000, seed=3)
    assert not any(is_held_out(s.place, s.time, s.thing) for s in scenes)


def test_about_a_tenth_of_the_combinations_is_held_out() -> None:
    held, shown = triples(held_out=True), triples(held_out=False)
    assert not set(held) & set(shown)
    assert 0.07 < len(held) / (len(held) + len(shown)) < 0.13


def test_each_word_of_a_held_out_combination_is_learned_elsewhere() -> None:
    shown = triples(held_out=False)
    for place, time, thing in triples(held_out=True):
        assert any(t[0] == place and t[2] == thing for t in shown) or place == "space"
        assert any(t[1] == time and t[2] == thing for t in shown)


def test_judged_scenes_are_held_out_and_spread_over_all_combinations() -> None:
    pool = triples(held_out=True)
    scenes = combination_scenes(len(pool), held_out=True, seed=1)
    assert {(s.place, s.time, s.thing) for s in scenes} == set(pool)


def test_the_same_seed_gives_the_same_captions() -> None:
    scenes = training_scenes(50, seed=1)
    first, second = random.Random(2), random.Random(2)
    assert [caption(s, first) for s in scenes] == [caption(s, second) for s in scenes]


def test_a_tenth_of_the_captions_is_empty() -> None:
    rng = random.Random(0)
    texts = [caption(s, rng) for s in training_scenes(3_000)]
    assert 0.07 < texts.count("") / len(texts) < 0.13


def test_a_caption_names_its_object_and_reads_like_one_line() -> None:
    rng = random.Random(0)
    for scene in training_scenes(1_000):
        text = caption(scene, rng, empty=0)
        assert text == text.strip()
        assert "  " not in text
        assert not re.search(r"\ban? (the|an?)\b", text)
        if scene.thing != NONE:
            assert any(word in text for word in OBJECTS[scene.thing].words)


def test_every_word_of_every_caption_is_in_the_vocabulary() -> None:
    rng, words = random.Random(0), set(vocabulary())
    for scene in training_scenes(3_000, seed=9):
        assert set(re.findall("[a-z]+", caption(scene, rng))) <= words


def test_the_vocabulary_is_sorted_single_words_with_plurals() -> None:
    words = vocabulary()
    assert words == sorted(set(words))
    assert all(re.fullmatch("[a-z]+", word) for word in words)
    assert {"castles", "foxes", "dwarves", "at", "with", "night"} <= set(words)


def test_the_canonical_caption_names_place_and_time() -> None:
    assert plain_caption("hills", "night", "castle") == "a castle in the hills at night"
    assert plain_caption("space", "night", "astronaut") == "an astronaut in outer space"


def test_objects_on_plain_ground_are_never_held_out() -> None:
    assert not any(is_held_out(PLAIN, NONE, thing) for thing in OBJECTS)
    assert not any(is_held_out(place, "day", NONE) for place in PLACES)
    assert Scene("beach", "day", NONE, 1) != Scene("beach", "day", NONE, 2)
