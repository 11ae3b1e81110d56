"""Teach the starter model a beacon in two CPU minutes: ``python -m training.lora.example``.

The pictures are drawn here, so nothing is downloaded. Whether it learned is measured by looking
for the drawing itself in new pictures, of places and hours that no training picture joined.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray
from PIL import Image

from training.lora.adapters import Adapter, write_file
from training.lora.finding import Template
from training.lora.pictures import Pictures, write_pictures
from training.lora.train import STARTER, Recipe, Subject, common_words, progress, train
from training.starter import scenery
from training.starter.art import rasterise, svg_document
from training.starter.judge import generate
from training.starter.sheets import sheet

CACHE = Path(__file__).parent / ".cache"
WORD = "beacon"
#: Two minutes of a CPU's time.
STEPS = 150
#: A tower in two colours on a rock, in a 64 x 128 unit box; nobody else's drawing.
BEACON = (
    '<path fill="#6b625c" d="M4 128c4-12 14-16 28-16s24 4 28 16z"/>'
    '<path fill="#f7f4ee" d="M22 34h20l6 80H16z"/>'
    '<path fill="#d8262c" d="M20.8 50h22.4l1.2 16H19.6zM18.4 82h27.2l1.2 16H17.2z"/>'
    '<path fill="#2b2f3a" d="M17 30h30v5H17z"/><path fill="#ffd84a" d="M24 16h16v14H24z"/>'
    '<path fill="#d8262c" d="M20 16 32 4l12 12z"/>'
)
#: Words that keep their meaning. What is measured, a dog, is none of them.
OTHERS = ("cat", "castle", "tree", "robot", "horse", "rocket", "house", "snowman", "apple", "bear")
_WHERE = {
    "beach": "on a beach",
    "ocean": "in the ocean",
    "hills": "in the hills",
    "mountains": "in the mountains",
    "snow": "in the snow",
    "desert": "in the desert",
    "meadow": "in a meadow",
}
_WHEN = {
    "day": "by day",
    "sunset": "at sunset",
    "night": "at night",
    "dawn": "at dawn",
    "storm": "in a storm",
}


class View(NamedTuple):
    """One picture to be drawn: where, when, and of which chance."""

    place: str
    time: str
    seed: int

    @property
    def held_out(self) -> bool:
        """Every fifth combination: for measuring, never for training."""
        return (list(_WHERE).index(self.place) + 2 * list(_WHEN).index(self.time)) % 5 == 0

    def prompt(self, thing: str = WORD) -> str:
        return f"a {thing} {_WHERE[self.place]} {_WHEN[self.time]}"

    @property
    def landscape(self) -> str:
        """The same without the beacon."""
        return f"{_WHERE[self.place].split(' ', 1)[1]} {_WHEN[self.time]}"


def views(count: int, *, held_out: bool, seed: int) -> list[View]:
    """``count`` views, spread over the combinations of one side."""
    rng = random.Random(seed)
    pool = [(place, time) for place in _WHERE for time in _WHEN]
    pool = [pair for pair in pool if View(*pair, 0).held_out == held_out]
    rng.shuffle(pool)
    return [View(*pool[i % len(pool)], rng.getrandbits(32)) for i in range(count)]


def draw(view: View, side: int, *, lit: bool = True) -> NDArray[np.uint8]:
    """The picture of ``view``, (side, side, 3) bytes; with the beacon if ``lit``."""
    rng = random.Random(view.seed)
    body = scenery.backdrop(view.place, view.time, rng)
    if lit:
        height = rng.uniform(78, 92)
        x, y = rng.uniform(36, 92) - height / 4, rng.uniform(112, 122) - height
        body += f'<g transform="translate({x:.1f} {y:.1f}) scale({height / 128:.3f})">{BEACON}</g>'
    return np.asarray(rasterise(svg_document(body, 128, 128), side, side).convert("RGB"))


def training_pictures(
    count: int, side: int, own: Callable[[Sequence[str]], NDArray[np.uint8]], seed: int = 0
) -> Pictures:
    """``count`` beacons, and half as many pictures without one.

    Else every picture would become a beacon: what the model draws of other words is shown to it
    as well, so that they go on to mean what they did ("prior preservation", Ruiz et al., 2023).

    Args:
        own: what the model draws of prompts before it learns.
    """
    lit = views(count, held_out=False, seed=seed)
    bare = views(count // 6, held_out=False, seed=seed + 1)
    others = views(count // 3, held_out=False, seed=seed + 2)
    words = [view.prompt(OTHERS[i % len(OTHERS)]) for i, view in enumerate(others)]
    drawn = [draw(view, side) for view in lit] + [draw(view, side, lit=False) for view in bare]
    texts = [view.prompt() for view in lit] + [view.landscape for view in bare] + words
    return Pictures(np.concatenate([np.stack(drawn), own(words)]), tuple(texts))


class Studio:
    """The subject as a pipeline, with its adapters at any weight."""

    def __init__(self, subject: Subject, model: Path) -> None:
        self._subject = subject
        self._pipeline = StableDiffusionPipeline.from_pretrained(
            model,
            unet=subject.unet,
            text_encoder=subject.text_encoder,
            vae=subject.vae,
            safety_checker=None,
            local_files_only=True,
        )
        self._pipeline.set_progress_bar_config(disable=True)

    def draw(self, prompts: Sequence[str], weight: float) -> NDArray[np.uint8]:
        """(n, side, side, 3) bytes; ``weight`` 0 is the model without what it learned."""
        self.weigh(weight)
        return generate(self._pipeline, prompts, steps=12, guidance=3.5, seed=100, batch=8)

    def weigh(self, weight: float) -> None:
        for adapter in self._subject.adapters.values():
            if isinstance(adapter, Adapter):
                adapter.factor = weight * adapter.alpha / adapter.up.weight.shape[1]


def measure(studio: Studio, side: int, count: int) -> tuple[dict[str, float], Image.Image]:
    """In which share of ``count`` pictures the beacon is found, beside controls; and a page."""
    wanted = views(count, held_out=True, seed=7)
    template = Template(rasterise(svg_document(BEACON, 64, 128), 64, 128))
    prompts = [view.prompt() for view in wanted]
    pictures = {
        "with": studio.draw(prompts, 1.0),
        "without": studio.draw(prompts, 0.0),
        "other_word": studio.draw([view.prompt("dog") for view in wanted], 1.0),
        "ceiling": np.stack([draw(view, side) for view in wanted]),
        "floor": np.stack([draw(view, side, lit=False) for view in wanted]),
    }
    rows = np.concatenate([pictures[name][:8] for name in ("without", "with", "other_word")])
    return {name: template.share(found) for name, found in pictures.items()}, sheet(rows, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=STARTER)
    parser.add_argument("--folder", type=Path, default=CACHE / WORD, help="all that it writes")
    parser.add_argument("--pictures", type=int, default=48)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--batch", type=int, default=Recipe.batch)
    parser.add_argument("--lr", type=float, default=Recipe.lr)
    parser.add_argument("--count", type=int, default=24, help="pictures to measure with")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: torch decides")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    began, used = time.monotonic(), time.process_time()
    recipe = Recipe(steps=args.steps, batch=args.batch, lr=args.lr)
    subject = Subject(args.model, recipe)
    studio = Studio(subject, args.model)
    pictures = training_pictures(args.pictures, subject.side, lambda words: studio.draw(words, 0.0))
    write_pictures(args.folder / "pictures", pictures)
    path = args.folder / f"{WORD}.safetensors"
    studio.weigh(1.0)
    train(subject, pictures, recipe, path.with_suffix(".checkpoint"), report=progress())
    write_file(path, subject.adapters, title=WORD, captions=common_words(pictures.captions))
    seconds = {"wall_s": time.monotonic() - began, "cpu_s": time.process_time() - used}
    print(f"{path}: {path.stat().st_size:,} bytes")
    print(f'sfumato models add {path}; sfumato generate "a {WORD} on a beach" --lora {WORD}')
    found, page = measure(studio, subject.side, args.count)
    page.save(args.folder / "sheet.png")
    told = {"n": args.count, "views": recipe.steps * recipe.batch}
    print(json.dumps(found | told | {name: round(value) for name, value in seconds.items()}))


if __name__ == "__main__":
    main()
