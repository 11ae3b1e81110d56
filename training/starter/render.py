"""Draw scenes, and write a whole training set: ``python -m training.starter.render``.

A set is a folder: ``pixels.u8`` holds (n, size, size, 3) bytes, ``scenes.json`` says what each
picture shows. Captions are not stored: they are drawn afresh every time a picture is used.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.starter import scenery
from training.starter.art import ALL_SETS, CACHE, DEFAULT_SETS, Art, rasterise, svg_document
from training.starter.styles import dyed, restyled
from training.starter.world import NONE, PLAIN, WORLD, Scene, World, sample_scene

#: Places where an object floats instead of standing on the ground.
_FLOATING = {"space", "sky", "underwater", PLAIN}
#: Pictures drawn by one task of the pool: progress is kept in files of this many.
_CHUNK = 500


def draw(scene: Scene, art: Art, size: int = 128) -> NDArray[np.uint8]:
    """The picture of ``scene``: (size, size, 3) bytes, the same for the same scene always."""
    rng = random.Random(scene.seed)
    if scene.place == PLAIN:
        body = scenery.plain_ground(rng)
    else:
        body = scenery.backdrop(scene.place, scene.time, rng)
    image = rasterise(svg_document(body, 128, 128), size, size)
    if scene.thing != NONE:
        _place_sprite(image, scene, art, rng)
    veil = scenery.foreground(scene.time, scene.seed)
    if veil:
        image.alpha_composite(rasterise(svg_document(veil, 128, 128), size, size))
    return np.asarray(restyled(image.convert("RGB"), scene.style, scene.seed))


def _place_sprite(image: Image.Image, scene: Scene, art: Art, rng: random.Random) -> None:
    """Paste the object into ``image``, tinted by the light, its feet near the lower edge."""
    size = image.width
    share = rng.uniform(0.64, 0.72) if scene.place == PLAIN else rng.uniform(0.56, 0.64)
    # Few distinct sizes, so that the sprite cache holds them all.
    sprite = art.sprite(scene.thing, rng.randrange(16), round(share * 16) * size // 16)
    if scene.colour:
        sprite = dyed(sprite, scene.colour)
    if scene.place != PLAIN:
        sprite = _tinted(sprite, scenery.LIGHTS[scene.time].tint)
    x = rng.uniform(0.46, 0.54) * size - sprite.width / 2
    if scene.place in _FLOATING:
        y = rng.uniform(0.48, 0.54) * size - sprite.height / 2
    else:
        y = rng.uniform(0.90, 0.94) * size - sprite.height
    image.alpha_composite(sprite, (max(0, round(x)), max(0, round(y))))


def _tinted(sprite: Image.Image, tint: tuple[float, float, float]) -> Image.Image:
    factors = [1 + (t - 1) * scenery.SPRITE_TINT for t in (*tint, 1.0)]
    pixels = np.asarray(sprite, dtype=np.float32) * np.array([*factors[:3], 1.0], np.float32)
    return Image.fromarray(pixels.astype(np.uint8), "RGBA")


def training_scenes(count: int, seed: int = 0, world: World = WORLD) -> list[Scene]:
    """``count`` scenes of the training side of the split."""
    rng = random.Random(seed)
    return [sample_scene(rng, world) for _ in range(count)]


def combination_scenes(
    count: int, *, held_out: bool, seed: int, world: World = WORLD
) -> list[Scene]:
    """``count`` scenes with an object, spread over all combinations of one side of the split."""
    rng = random.Random(seed)
    pool = world.triples(held_out=held_out)
    chosen: list[tuple[str, str, str]] = []
    while len(chosen) < count:
        rng.shuffle(pool)
        chosen += pool
    return [Scene(*triple, rng.getrandbits(32)) for triple in chosen[:count]]


@cache
def _load(sets: tuple[str, ...], folder: Path) -> Art:
    """The art, read once in each worker process."""
    return Art.load(sets, folder)


def _draw_chunk(
    job: tuple[list[Scene], int], sets: tuple[str, ...], folder: Path
) -> NDArray[np.uint8]:
    scenes, size = job
    art = _load(sets, folder)
    return np.stack([draw(scene, art, size) for scene in scenes])


def write_set(
    folder: Path,
    scenes: Sequence[Scene],
    *,
    size: int = 128,
    sets: tuple[str, ...] = DEFAULT_SETS,
    folder_of_art: Path = CACHE,
    workers: int = 2,
) -> None:
    """Draw ``scenes`` into ``folder``; a run that was cut off goes on at its last chunk."""
    folder.mkdir(parents=True, exist_ok=True)
    done_file, frame = folder / "done", size * size * 3
    done = int(done_file.read_text()) if done_file.exists() else 0
    starts = range(done, len(scenes), _CHUNK)
    jobs = ((list(scenes[at : at + _CHUNK]), size) for at in starts)
    paint = partial(_draw_chunk, sets=sets, folder=folder_of_art)
    # Workers are started fresh: a fork would share the parent's torch threads, if it has any.
    context = multiprocessing.get_context("spawn")
    with (
        context.Pool(workers) as pool,
        (folder / "pixels.u8").open("r+b" if done else "wb") as out,
    ):
        out.seek(done * frame)
        for at, pixels in zip(starts, pool.imap(paint, jobs), strict=True):
            out.write(pixels.tobytes())
            out.flush()
            done_file.write_text(str(at + len(pixels)))
            print(f"{folder.name}: {at + len(pixels)} of {len(scenes)}", flush=True)
    (folder / "sets.json").write_text(json.dumps(sets))
    (folder / "scenes.json").write_text(json.dumps([asdict(s) for s in scenes]))


def sets_of(folder: Path) -> tuple[str, ...]:
    """The art sets that a set of renders was drawn from."""
    return tuple(json.loads((folder / "sets.json").read_text()))


def read_set(folder: Path, size: int = 128) -> tuple[NDArray[np.uint8], list[Scene]]:
    """A set's pixels, memory-mapped as (n, size, size, 3), and its scenes."""
    scenes = [Scene(**row) for row in json.loads((folder / "scenes.json").read_text())]
    shape = (len(scenes), size, size, 3)
    return np.memmap(folder / "pixels.u8", np.uint8, "r", shape=shape), scenes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=CACHE / "run")
    parser.add_argument("--count", type=int, default=36_000, help="training pictures")
    parser.add_argument("--eval-count", type=int, default=2_000, help="held-out pictures")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--all-art", action="store_true", help="five emoji styles, not one")
    args = parser.parse_args()
    sets = ALL_SETS if args.all_art else DEFAULT_SETS
    common = {"size": args.size, "sets": sets, "workers": args.workers}
    held = combination_scenes(args.eval_count, held_out=True, seed=args.seed + 1)
    write_set(args.work / "held-out", held, **common)
    write_set(args.work / "train", training_scenes(args.count, args.seed), **common)


if __name__ == "__main__":
    main()
