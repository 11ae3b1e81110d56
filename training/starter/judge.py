"""Measure how well prompts steer a model: ``make judge-starter``.

Pictures are made by diffusers' own pipeline from the model's folder, for combinations of place,
time and object that training never showed. The judge has only seen real renders, of the classes
that the model was taught. It shares a renderer with the generator, so it measures steering inside
this world, not beauty. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import logging
from numpy.typing import NDArray

from training.starter import gates
from training.starter.art import CACHE
from training.starter.captions import caption, plain_caption
from training.starter.codec import to_images
from training.starter.export import WEIGHTS
from training.starter.judge_model import SIDE, Judge, accuracy, load_or_train, opinions
from training.starter.paraphrases import judged
from training.starter.render import combination_scenes, read_set, training_scenes, write_set
from training.starter.sheets import sheet
from training.starter.words import LIGHT_OF
from training.starter.world import WORLD, Scene, World

#: What a release needs: on a GPU, over at least 120 object words.
WANTED = {"place": 0.98, "time": 0.98, "object": 0.80, "retrieval": 0.5}
RETRIEVED = 100
VARIED = 16


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
        if at // 160 != (at + batch) // 160:
            print(f"{at + len(part)} of {len(prompts)} pictures", flush=True)
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


def prompts_of(scenes: Sequence[Scene], seed: int, world: World = WORLD) -> list[str]:
    """A caption for each scene that names all of its three classes."""
    rng = random.Random(seed)
    prompts = []
    for scene in scenes:
        text = caption(scene, rng, world, empty=0)
        # A caption may leave the time out; the judge asks for it, so the prompt must as well.
        said = any(phrase in text for phrase in world.times[scene.time])
        named = said or scene.place in LIGHT_OF
        prompts.append(
            text if named else plain_caption(scene.place, scene.time, scene.thing, world)
        )
    return prompts


class Trial:
    """One model before its judge.

    Args:
        work: where renders and judges are kept, below a folder for what the model knows.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        card = json.loads((args.model / "sfumato.json").read_text(encoding="utf-8"))
        self.world = WORLD.known_to(card)
        self.size = int(card["defaults"]["width"])
        self.steps = args.steps or int(card["defaults"]["num_inference_steps"])
        self.guidance = args.guidance or float(card["defaults"]["guidance_scale"])
        folder = f"{len(self.world.things)}-objects-{self.size}px-judge{args.side}"
        self.work: Path = args.work / folder
        self.report: dict[str, Any] = {}
        self._began = time.monotonic()

    def renders(self) -> None:
        """Draw what the judge learns from, and held-out pictures for its ceiling."""
        common = {"size": self.size, "workers": self.args.workers}
        common |= {"folder_of_art": self.args.art}
        shown = training_scenes(self.args.renders, 11, self.world)
        write_set(self.work / "train", shown, **common)
        held = combination_scenes(self.args.fresh, held_out=True, seed=12, world=self.world)
        write_set(self.work / "held-out", held, **common)
        self.training, self.shown = read_set(self.work / "train", self.size)
        self.fresh, self.held = read_set(self.work / "held-out", self.size)

    def ceiling(self) -> Judge:
        """The judge, and what it makes of pictures that are right."""
        judge = load_or_train(
            self.work / "judge.pt",
            self.training,
            self.shown,
            self.world,
            side=self.args.side,
            epochs=self.args.epochs,
            device=self.args.device,
        )
        seen = opinions(judge, self.fresh)
        first = gates.distinct(self.held, RETRIEVED)
        self.report["ceiling_renders"] = accuracy(judge, seen, self.held) | {
            "retrieval": _retrieval(judge, seen, self.held, first)
        }
        print("real held-out renders:", self.report["ceiling_renders"], flush=True)
        return judge

    def drawn(self, prompts: Sequence[str], seed: int) -> NDArray[np.uint8]:
        return generate(
            self.pipeline,
            prompts,
            steps=self.steps,
            guidance=self.guidance,
            seed=seed,
            batch=self.args.batch,
        )

    def judge_all(self, judge: Judge) -> dict[str, Any]:
        """Every gate, into the report; the five figures of the last line."""
        args, report = self.args, self.report
        self.pipeline = load_pipeline(args.model, args.device)
        few = min(args.vae_ceiling, len(self.fresh))
        seen = opinions(judge, through_vae(self.pipeline, self.fresh[:few]))
        report["ceiling_vae"] = accuracy(judge, seen, self.held[:few])
        print("real renders through the VAE:", report["ceiling_vae"], flush=True)

        scenes = combination_scenes(args.count, held_out=True, seed=args.seed, world=self.world)
        began = time.monotonic()
        pictures = self.drawn(prompts_of(scenes, args.seed, self.world), args.seed)
        seconds = (time.monotonic() - began) / len(pictures)
        seen = opinions(judge, pictures)
        scores = accuracy(judge, seen, scenes)
        first = gates.distinct(scenes, RETRIEVED)
        scores["retrieval"] = _retrieval(judge, seen, scenes, first)
        half = len(scenes) // 2 + 1
        report["control_shuffled"] = accuracy(judge, seen, scenes, shift=half) | {
            "retrieval": _retrieval(judge, seen, scenes, first, shift=len(first) // 2)
        }
        report["chance"] = {
            name: round(1 / (len(found) - (name == "object")), 4)
            for name, found in judge.classes.items()
        } | {"retrieval": round(1 / len(first), 4)}
        report |= {"n": len(scenes), "steps": self.steps, "guidance": self.guidance}
        report |= {"side": args.side, "objects": len(self.world.things), "retrieval_n": len(first)}
        report["seconds_each_batched"] = round(seconds, 3)

        wishes = judged(self.world)
        own_words = self.drawn([wish.text for wish, _ in wishes], args.seed + 50_000)
        seen = opinions(judge, own_words)
        meant = [scene for _, scene in wishes]
        scores["paraphrases"] = gates.all_right(judge, seen, meant)
        report["paraphrases"] = accuracy(judge, seen, meant) | {"n": len(meant)}
        shuffled = [*meant[len(meant) // 2 :], *meant[: len(meant) // 2]]
        report["control_shuffled"]["paraphrases"] = gates.all_right(judge, seen, shuffled)

        sample = pictures[: args.copies]
        report["copying"] = gates.copying(sample, self.fresh[: args.copies], self.training)
        one = self.drawn([plain_caption("hills", "night", "castle", self.world)] * VARIED, 1)
        report["diversity"] = {
            "one_prompt": gates.spread(one),
            "many_prompts": gates.spread(pictures[:VARIED]),
            "n": VARIED,
        }
        if args.sheet:
            sheet(pictures[:64], 8).quantize(128).save(args.sheet, optimize=True)
        report["minutes"] = round((time.monotonic() - self._began) / 60, 1)
        return scores


def _retrieval(
    judge: Judge,
    seen: dict[str, torch.Tensor],
    scenes: Sequence[Scene],
    which: list[int],
    *,
    shift: int = 0,
) -> float:
    turned = [*which[shift:], *which[:shift]]
    part = {name: found[which] for name, found in seen.items()}
    return gates.recall_at_one(judge, part, [scenes[i] for i in turned])


def table(scores: dict[str, float], report: dict[str, Any]) -> str:
    """Every gate beside its ceiling, chance and control."""
    columns = ("ceiling_renders", "ceiling_vae", "control_shuffled", "chance")
    lines = [f"{'':<12}{'model':>8}{'gate':>8}" + "".join(f"{name:>18}" for name in columns)]
    for name, score in scores.items():
        gate = f"{WANTED[name]:.2f}" if name in WANTED else "-"
        cells = [report[column].get(name) for column in columns]
        shown = "".join(f"{'-' if cell is None else format(cell, '.3f'):>18}" for cell in cells)
        lines.append(f"{name:<12}{score:>8.3f}{gate:>8}{shown}")
    return "\n".join(lines)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=CACHE / "judge")
    parser.add_argument("--art", type=Path, default=CACHE, help="what fetch.sh fetched")
    parser.add_argument("--model", type=Path, default=WEIGHTS)
    parser.add_argument("--count", type=int, default=1000, help="pictures to be judged")
    parser.add_argument("--renders", type=int, default=12_000, help="what the judge learns from")
    parser.add_argument("--fresh", type=int, default=1000, help="held-out renders for the ceiling")
    parser.add_argument("--vae-ceiling", type=int, default=300)
    parser.add_argument("--copies", type=int, default=200, help="pictures looked at for copying")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--side", type=int, default=SIDE, help="what the judge sees")
    parser.add_argument("--steps", type=int, default=0, help="0: the model's own")
    parser.add_argument("--guidance", type=float, default=0.0, help="0: the model's own")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw renders")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: torch decides")
    parser.add_argument("--sheet", type=Path, help="also write 64 of the pictures as one")
    parser.add_argument("--output", type=Path, help="also write the whole report there")
    return parser.parse_args(arguments)


def main() -> None:
    args = parse()
    if args.threads:
        torch.set_num_threads(args.threads)
    trial = Trial(args)
    trial.renders()
    scores = trial.judge_all(trial.ceiling())
    whole = scores | {"gates": WANTED} | trial.report | {"paraphrases": scores["paraphrases"]}
    whole["paraphrases_of"] = trial.report["paraphrases"]
    if args.output:
        args.output.write_text(json.dumps(whole, indent=1) + "\n")
    print(table(scores, trial.report))
    for name in ("copying", "diversity", "paraphrases"):
        print(f"{name}: {trial.report[name]}")
    names = ("place", "time", "object", "retrieval", "paraphrases")
    print(json.dumps({name: scores[name] for name in names}))


if __name__ == "__main__":
    main()
