"""The GPU training in two parts, each in slices that go on where the last one ended.

    python -m training.starter.run smoke --device cuda      # two minutes: rates, and plan.json
    python -m training.starter.run part1 --device cuda      # again, until it says that it is done
    python -m training.starter.run part2 --device cuda      # likewise; then export, judge and card

Part 1 draws, trains the VAE and teaches the denoiser at half the size. What part 2 needs of it is
``handover`` alone: weights in half precision, in files of at most 15 MB, so the parts may run on
different machines. Part 2 draws again, goes on at full size, and sharpens the decoder.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

from training.starter import train as diffusion
from training.starter import train_vae
from training.starter.art import ALL_SETS, CACHE
from training.starter.common import Clock, save_checkpoint
from training.starter.export import export
from training.starter.latents import encode_set
from training.starter.models import FACTOR, LATENT_CHANNELS, SHAPES, Shape
from training.starter.render import combination_scenes, read_set, training_scenes, write_set
from training.starter.tokens import load_tokenizer, train_tokenizer
from training.starter.train import Denoiser


@dataclass(frozen=True)
class Plan:
    """How a run is spent; ``smoke`` makes one of measured rates.

    Attributes:
        pictures: renders of a set; both parts draw the same.
        vae, half, full, decoder: minutes of each training.
        vae_batch, half_batch, full_batch: pictures a step.
    """

    pictures: int = 120_000
    held_out: int = 2_000
    vae: float = 7.0
    half: float = 12.0
    full: float = 17.0
    decoder: float = 3.0
    vae_batch: int = 64
    half_batch: int = 1024
    full_batch: int = 512
    lr: float = 1e-3
    ema: float = 0.9995
    compiled: bool = False


class NotYet(Exception):
    """The slice's time is over; the next one goes on here."""


@dataclass(frozen=True)
class Slice:
    """One process's share of a part: where it works, on what, until when (``time.monotonic``)."""

    work: Path
    shape: Shape
    device: str
    until: float
    workers: int
    art: Path = CACHE

    def stage(self, name: str, do: Callable[[], object]) -> None:
        """Do one stage, unless it is done. Raises ``NotYet`` when no time is left."""
        done = self.work / "done" / name
        if done.exists():
            return
        if time.monotonic() >= self.until:
            raise NotYet(name)
        began = time.monotonic()
        do()
        done.parent.mkdir(parents=True, exist_ok=True)
        done.touch()
        print(f"{name}: done in {time.monotonic() - began:.0f} s of this slice", flush=True)

    def clock(self, minutes: float) -> Clock:
        return Clock(1, minutes, until=self.until)

    def finished(self, clock: Clock, name: str) -> None:
        """Raises ``NotYet`` where ``clock`` ended with the slice, not with its own minutes."""
        if clock.progress < 1:
            raise NotYet(f"{name}, {100 * clock.progress:.0f} % of it done")


def draw(run: Slice, plan: Plan, size: int) -> None:
    """The set of both splits at ``size`` pixels a side."""
    common: dict[str, Any] = {"size": size, "sets": ALL_SETS, "workers": run.workers}
    common["folder_of_art"] = run.art
    held = combination_scenes(plan.held_out, held_out=True, seed=1)
    write_set(run.work / "held-out", held, **common)
    write_set(run.work / "train", training_scenes(plan.pictures), **common)


def teach_vae(run: Slice, plan: Plan, size: int, minutes: float, *, decoder_only: bool) -> None:
    pixels, _ = read_set(run.work / "train", size)
    clock = run.clock(minutes)
    train_vae.train(
        pixels,
        run.work / ("vae-tuned.pt" if decoder_only else "vae.pt"),
        clock,
        batch=plan.vae_batch,
        crop=min(size, 128),
        device=run.device,
        decoder_of=run.work / "vae-final.pt" if decoder_only else None,
        shape=run.shape,
    )
    run.finished(clock, "the VAE")


def teach(run: Slice, plan: Plan, size: int, minutes: float, batch: int) -> None:
    """Text encoder and UNet at ``size``, from ``start.pt`` where there is one."""
    pixels, scenes = read_set(run.work / "train", size)
    words = run.work / "tokenizer"
    if not (words / "merges.txt").exists():
        train_tokenizer(words)
    latents = encode_set(run.work, pixels, device=run.device, chunk=200, shape=run.shape)
    clock, start = run.clock(minutes), run.work / "start.pt"
    diffusion.train(
        latents,
        scenes,
        load_tokenizer(words),
        run.work / "diffusion.pt",
        clock,
        batch=batch,
        lr=plan.lr,
        ema_decay=plan.ema,
        device=run.device,
        compiled=plan.compiled,
        start=start if start.exists() else None,
        tokens=run.work / "tokens.npy",
        shape=run.shape,
    )
    run.finished(clock, "the denoiser")


def adopt(run: Slice, handover: Path) -> None:
    """Begin part 2 with the weights and the words of part 1."""
    pipeline = StableDiffusionPipeline.from_pretrained(
        handover, safety_checker=None, dtype=torch.float32, local_files_only=True
    )
    (run.work / "tokenizer").mkdir(parents=True, exist_ok=True)
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(handover / "tokenizer" / name, run.work / "tokenizer" / name)
    save_checkpoint(run.work / "vae-final.pt", {"vae": pipeline.vae.state_dict()})
    model = Denoiser(pipeline.unet, pipeline.text_encoder)
    save_checkpoint(run.work / "start.pt", {"model": model.state_dict()})


def part1(run: Slice, plan: Plan, handover: Path) -> None:
    half = run.shape.size // 2
    run.stage("draw", lambda: draw(run, plan, half))
    run.stage("vae", lambda: teach_vae(run, plan, half, plan.vae, decoder_only=False))
    run.stage("half", lambda: teach(run, plan, half, plan.half, plan.half_batch))
    run.stage("handover", lambda: export(run.work, handover, shape=run.shape))


def part2(run: Slice, plan: Plan, handover: Path, target: Path) -> None:
    size = run.shape.size
    run.stage("adopt", lambda: adopt(run, handover))
    run.stage("draw", lambda: draw(run, plan, size))
    run.stage("decoder", lambda: teach_vae(run, plan, size, plan.decoder, decoder_only=True))
    run.stage("full", lambda: teach(run, plan, size, plan.full, plan.full_batch))
    run.stage("export", lambda: export(run.work, target, shape=run.shape))


def smoke(run: Slice, plan: Plan, budget: float) -> Plan:
    """Measure each stage for some seconds, and plan two parts of ``budget`` minutes by it."""
    half, full = run.shape.size // 2, run.shape.size
    seconds = max(1.0, min(20.0, budget))
    # What an earlier call has drawn would count as drawn in no time.
    shutil.rmtree(run.work, ignore_errors=True)
    began = time.monotonic()
    draw(run, replace(plan, pictures=2_000, held_out=1), full)
    drawing = 2_000 / (time.monotonic() - began)
    pixels, scenes = read_set(run.work / "train", full)
    rates = {"drawn at full size": drawing}

    clock = Clock(1, seconds / 60)
    vae_file = run.work / "vae.pt"
    small = np.ascontiguousarray(pixels[:, ::2, ::2])
    train_vae.train(
        small, vae_file, clock, batch=plan.vae_batch, crop=min(half, 128), device=run.device,
        shape=run.shape,
    )  # fmt: skip
    rates["VAE"] = clock.step * plan.vae_batch / clock.spent

    began = time.monotonic()
    encode_set(run.work, pixels, device=run.device, chunk=200, shape=run.shape)
    rates["encoded at full size"] = len(pixels) / (time.monotonic() - began)

    tokenizer = train_tokenizer(run.work / "tokenizer")
    for name, size, batch in (("half", half, plan.half_batch), ("full", full, plan.full_batch)):
        side = size // FACTOR
        latents = np.random.default_rng(0).standard_normal((2_000, LATENT_CHANNELS, side, side))
        clock = Clock(1, seconds / 60)
        diffusion.train(
            latents.astype(np.float16), scenes, tokenizer, run.work / f"smoke-{name}.pt", clock,
            batch=batch, device=run.device, compiled=plan.compiled, shape=run.shape,
        )  # fmt: skip
        rates[name] = clock.step * batch / clock.spent
    for name, rate in rates.items():
        print(f"{name}: {rate:.0f} images per second")
    return scaled(plan, rates, budget)


def scaled(plan: Plan, rates: dict[str, float], budget: float) -> Plan:
    """``plan`` for parts of ``budget`` minutes on a machine of these rates.

    A sixth of a part goes into drawing and encoding at most, the rest into training. Pictures are
    120,000 at most; below 20,000 a set repeats itself too often, whatever the machine.
    """
    each = 1 / rates["drawn at full size"] + 1 / rates["encoded at full size"]
    fits = budget * 60 / 6 / each
    pictures = int(max(20_000, min(120_000, fits)) if budget >= 5 else max(200, fits))
    left = budget - pictures * each / 60
    return Plan(
        **asdict(plan)
        | {
            "pictures": pictures,
            "vae": round(0.37 * left, 2),
            "half": round(0.57 * left, 2),
            "decoder": round(0.14 * left, 2),
            "full": round(0.78 * left, 2),
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("smoke", "part1", "part2"))
    parser.add_argument("--work", type=Path, default=CACHE / "gpu")
    parser.add_argument("--handover", type=Path, default=CACHE / "handover")
    parser.add_argument("--target", type=Path, default=CACHE / "starter", help="the weights")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shape", choices=tuple(SHAPES), default="release")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw")
    parser.add_argument("--slice", type=float, default=math.inf, help="minutes of this call")
    parser.add_argument("--budget", type=float, default=27.0, help="minutes of a part, for smoke")
    parser.add_argument("--batch", type=int, help="of every training, for small machines")
    parser.add_argument("--compile", action="store_true", help="smoke with torch.compile")
    args = parser.parse_args()
    until = time.monotonic() + 60 * args.slice
    run = Slice(args.work / args.part, SHAPES[args.shape], args.device, until, args.workers)
    run.work.mkdir(parents=True, exist_ok=True)
    kept = args.work / "plan.json"
    if args.part == "smoke":
        batches = ("vae_batch", "half_batch", "full_batch") if args.batch else ()
        first = Plan(**dict.fromkeys(batches, args.batch), compiled=args.compile)
        plan = smoke(run, first, args.budget)
        kept.write_text(json.dumps(asdict(plan), indent=1) + "\n")
        shutil.rmtree(run.work)
        print(json.dumps(asdict(plan)))
        return
    plan = Plan(**json.loads(kept.read_text())) if kept.exists() else Plan()
    try:
        if args.part == "part1":
            part1(run, plan, args.handover)
        else:
            part2(run, plan, args.handover, args.target)
    except NotYet as where:
        print(f"This slice is over ({where}). The same command goes on.")
        return
    print(f"{args.part} is done.")


if __name__ == "__main__":
    main()
