"""Measure how well prompts steer the exported model: ``python -m training.starter.judge``.

Pictures are made by diffusers' own pipeline from the exported folder, for combinations of
place, time and object that training never showed. The judge has only seen real renders. It
shares a renderer with the generator, so it measures steering inside this world, not beauty.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import logging
from numpy.typing import NDArray
from PIL import Image

from training.starter.art import CACHE
from training.starter.captions import caption, plain_caption
from training.starter.export import DEFAULTS, WEIGHTS
from training.starter.judge_model import HEADS, accuracy, load_or_train
from training.starter.latents import to_images
from training.starter.render import combination_scenes, read_set
from training.starter.world import Scene


def load_pipeline(folder: Path, device: str = "cpu") -> StableDiffusionPipeline:
    """The exported model in fp32, offline."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, safety_checker=None, dtype=torch.float32, local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def generate(
    pipeline: StableDiffusionPipeline,
    prompts: Sequence[str],
    *,
    steps: int,
    guidance: float,
    seed: int = 0,
    batch: int = 16,
) -> NDArray[np.uint8]:
    """One picture a prompt, (n, side, side, 3) bytes; picture i has seed ``seed + i``."""
    pictures: list[NDArray[np.uint8]] = []
    for at in range(0, len(prompts), batch):
        part = list(prompts[at : at + batch])
        noise = [torch.Generator().manual_seed(seed + at + i) for i in range(len(part))]
        output = pipeline(
            part,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=noise,
            output_type="np",
        ).images
        pictures.append((output * 255).round().astype(np.uint8))
    return np.concatenate(pictures)


@torch.no_grad()
def through_vae(
    pipeline: StableDiffusionPipeline, pixels: NDArray[np.uint8], batch: int = 50
) -> NDArray[np.uint8]:
    """``pixels`` encoded and decoded: what the generator could reach at most."""
    parts = []
    for at in range(0, len(pixels), batch):
        images = to_images(pixels[at : at + batch]).to(pipeline.device)
        decoded = pipeline.vae.decode(pipeline.vae.encode(images).latent_dist.mode()).sample
        parts.append(((decoded.clamp(-1, 1) + 1) * 127.5).round().byte().cpu())
    return torch.cat(parts).permute(0, 2, 3, 1).numpy()


def prompts_of(scenes: Sequence[Scene], seed: int) -> list[str]:
    """A caption for each scene that names all of its three classes."""
    rng = random.Random(seed)
    prompts = []
    for scene in scenes:
        text = caption(scene, rng, empty=0)
        # A caption may leave the day out; the judge asks for it, so the prompt must as well.
        named = scene.place == "space" or scene.time != "day" or "day" in text
        prompts.append(text if named else plain_caption(scene.place, scene.time, scene.thing))
    return prompts


def sheet(pixels: NDArray[np.uint8], columns: int, gap: int = 2) -> Image.Image:
    """All pictures on one, row by row."""
    side, rows = pixels.shape[1], -(-len(pixels) // columns)
    page = Image.new("RGB", (columns * (side + gap) - gap, rows * (side + gap) - gap), "white")
    for i, picture in enumerate(pixels):
        at = ((i % columns) * (side + gap), (i // columns) * (side + gap))
        page.paste(Image.fromarray(picture), at)
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=CACHE / "run")
    parser.add_argument("--model", type=Path, default=WEIGHTS)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--steps", type=int, default=DEFAULTS["num_inference_steps"])
    parser.add_argument("--guidance", type=float, default=DEFAULTS["guidance_scale"])
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: torch decides")
    parser.add_argument("--train-only", action="store_true", help="train the judge and stop")
    parser.add_argument("--no-ceiling", action="store_true", help="generated pictures alone")
    parser.add_argument("--sheet", type=Path, help="also write 64 of the pictures as one")
    parser.add_argument("--output", type=Path, help="also write the JSON there")
    args = parser.parse_args()

    if args.threads:
        torch.set_num_threads(args.threads)
    judge = load_or_train(args.work / "judge.pt", *read_set(args.work / "train"))
    held_pixels, held_scenes = read_set(args.work / "held-out")
    report: dict[str, object] = {}
    if not args.no_ceiling:
        report["ceiling_renders"] = accuracy(judge, held_pixels, held_scenes)
        print("real held-out renders:", report["ceiling_renders"], flush=True)
    if args.train_only:
        return
    pipeline = load_pipeline(args.model, args.device)
    if not args.no_ceiling:
        few = held_pixels[:600]
        report["ceiling_vae"] = accuracy(judge, through_vae(pipeline, few), held_scenes[:600])
        print("real renders through the VAE:", report["ceiling_vae"], flush=True)
    scenes = combination_scenes(args.count, held_out=True, seed=args.seed)
    began = time.monotonic()
    pictures = generate(
        pipeline, prompts_of(scenes, args.seed), steps=args.steps, guidance=args.guidance
    )
    seconds = (time.monotonic() - began) / len(pictures)
    report["control_shuffled"] = accuracy(judge, pictures, scenes, shift=len(scenes) // 2 + 1)
    report["chance"] = {
        "place": round(1 / len(HEADS["place"]), 4),
        "time": round(1 / len(HEADS["time"]), 4),
        "object": round(1 / (len(HEADS["object"]) - 1), 4),
    }
    scores = accuracy(judge, pictures, scenes)
    settings = {"n": len(scenes), "steps": args.steps, "guidance": args.guidance}
    result = scores | settings | {"seconds_each_batched": round(seconds, 3)} | report
    if args.sheet:
        sheet(pictures[:64], 8).quantize(128).save(args.sheet, optimize=True)
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n")
    for name in HEADS:
        print(f"{name}: {scores[name]:.3f}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
