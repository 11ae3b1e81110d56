"""The closed world: what training may show, and what captions may say."""

import json
import random
import re

import pytest

from training.starter.captions import caption, plain_caption, vocabulary
from training.starter.export import WEIGHTS
from training.starter.judge import prompts_of
from training.starter.paraphrases import PARAPHRASES, judged
from training.starter.render import combination_scenes, training_scenes
from training.starter.words import COLOURS, LIGHT_OF, OBJECTS, PLACES, STYLES, TIMES
from training.starter.world import NONE, PLAIN, WORLD, Scene, World, is_held_out, sample_scene


def test_training_never_shows_a_held_out_combination() -> None:
    scenes = training_scenes(5_000, seed=3)
    assert not any(is_held_out(s.place, s.time, s.thing) for s in scenes)


def test_about_a_tenth_of_the_combinations_is_held_out() -> None:
    held, shown = WORLD.triples(held_out=True), WORLD.triples(held_out=False)
    assert not set(held) & set(shown)
    assert 0.07 < len(held) / (len(held) + len(shown)) < 0.13


def test_each_word_of_a_held_out_combination_is_learned_elsewhere() -> None:
    shown = WORLD.triples(held_out=False)
    placed = {(place, thing) for place, _, thing in shown}
    timed = {(time, thing) for _, time, thing in shown}
    for place, time, thing in WORLD.triples(held_out=True):
        assert (place, thing) in placed or place in LIGHT_OF
        assert (time, thing) in timed


def test_judged_scenes_are_held_out_and_spread_over_all_combinations() -> None:
    pool = WORLD.triples(held_out=True)
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
    for scene in training_scenes(2_000):
        text = caption(scene, rng, empty=0)
        assert text == text.strip()
        assert "  " not in text
        assert not re.search(r"\ban? (the|an?)\b", text)
        if scene.thing != NONE:
            assert any(word in text for word in OBJECTS[scene.thing].words)
        assert scene.colour in text
        if scene.style != "flat":
            asked = STYLES[scene.style]
            said = (*asked.prefixes, *asked.adjectives, *asked.suffixes)
            assert any(words.strip(", ") in text for words in said)


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


def test_the_words_are_as_many_as_were_asked_for() -> None:
    assert len(OBJECTS) >= 200
    assert len(PLACES) >= 12
    assert len(TIMES) >= 6
    assert len(STYLES) >= 4
    assert len(COLOURS) >= 8
    assert sum(len(thing.words) > 1 for thing in OBJECTS.values()) >= 40, "synonyms"


def test_no_word_means_two_objects() -> None:
    words = [word for thing in OBJECTS.values() for word in thing.words]
    assert sorted({word for word in words if words.count(word) > 1}) == []
    icons = [thing.icon for thing in OBJECTS.values()]
    assert sorted({icon for icon in icons if icons.count(icon) > 1}) == []


@pytest.fixture(scope="module")
def shipped() -> World:
    """What the weights in the package know."""
    return WORLD.known_to(json.loads((WEIGHTS / "sfumato.json").read_text()))


def test_shipped_weights_are_asked_only_for_what_they_were_taught(shipped: World) -> None:
    card = json.loads((WEIGHTS / "sfumato.json").read_text())
    assert shipped.classes() == card["world"], "no class of theirs may leave the tables"
    rng, words = random.Random(0), set(card["vocabulary"])
    for _ in range(1_000):
        scene = sample_scene(rng, shipped)
        assert set(re.findall("[a-z]+", caption(scene, rng, shipped))) <= words
    held = combination_scenes(100, held_out=True, seed=1, world=shipped)
    assert {scene.thing for scene in held} <= set(card["world"]["objects"])


def test_a_model_of_fewer_words_is_asked_for_fewer() -> None:
    card = json.loads((WEIGHTS / "sfumato.json").read_text())
    card["vocabulary"].remove("fox")
    card["world"]["objects"].remove("fox")
    card["world"]["times"].remove("fog")
    less = WORLD.known_to(card)
    assert less.classes() == card["world"]
    asked = judged(less)
    assert 0 < len(asked) < 50
    assert all(scene.thing != "fox" and scene.time != "fog" for _, scene in asked)


def test_paraphrases_are_fifty_judgeable_wishes_in_no_words_of_the_grammar(shipped: World) -> None:
    texts = [wish.text for wish in PARAPHRASES]
    assert len(set(texts)) == 50
    assert len(judged(WORLD)) == len(judged(shipped)) == 50, "each names classes that there are"
    rng, known = random.Random(0), set(vocabulary())
    grammar = {caption(sample_scene(rng), rng) for _ in range(5_000)}
    assert not grammar & set(texts)
    unheard = [text for text in texts if set(re.findall("[a-z]+", text)) - known]
    assert len(unheard) >= 30, "most take words that training never showed"


def test_the_judge_s_prompts_name_every_time_that_it_asks_for() -> None:
    """A caption may leave it out: that is how people speak, and nothing to be judged by."""
    scenes = combination_scenes(400, held_out=True, seed=5)
    for scene, prompt in zip(scenes, prompts_of(scenes, 5), strict=True):
        named = any(phrase in prompt for phrase in WORLD.times[scene.time])
        assert named or scene.place in LIGHT_OF, prompt
