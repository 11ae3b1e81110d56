"""The GPU training in two parts, each in slices that go on where the last one ended.

    python -m training.starter.run smoke --device cuda      # two minutes: rates, and plan.json
    python -m training.starter.run part1 --device cuda      # again, until it says that it is done
    python -m training.starter.run part2 --device cuda      # likewise; then export, judge and card

Part 1 draws, trains the VAE and the text encoder, and begins with the UNet. What part 2 needs of it is
``handover`` alone: weights in half precision, in files of at most 15 MB, so the parts may run on
different machines. Part 2 draws again, goes on with the UNet and the text encoder, and exports.
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

from training.starter import train as diffusion
from training.starter import train_text, train_vae
from training.starter.art import ALL_SETS, CACHE, Art
from training.starter.codec import codec_of, encode_set
from training.starter.common import Clock
from training.starter.export import export
from training.starter.handover import adopt, hand_over
from training.starter.looks import codes
from training.starter.models import SHAPES, Shape
from training.starter.render import combination_scenes, read_set, training_scenes, write_set
from training.starter.tokens import tokenizer_of


@dataclass(frozen=True)
class Plan:
    """How a run is spent; ``smoke`` makes one of measured rates.

    Attributes:
        pictures: renders of a set; both parts draw the same.
        vae, text, first, second: minutes of each training; the UNet's is cut in two.
        vae_batch, text_batch, batch: pictures a step.
    """

    pictures: int = 120_000
    held_out: int = 2_000
    vae: float = 6.0
    text: float = 3.0
    first: float = 13.0
    second: float = 22.0
    vae_batch: int = 64
    text_batch: int = 512
    batch: int = 512
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

    def lesson(self, name: str, do: Callable[[], Clock]) -> None:
        """A stage that trains. Raises ``NotYet`` where it ended with the slice, not by its minutes."""

        def teach() -> None:
            clock = do()
            if clock.progress < 1:
                raise NotYet(f"{name}, {100 * clock.progress:.0f} % of it done")

        self.stage(name, teach)


def draw(run: Slice, plan: Plan) -> None:
    """The set of both splits."""
    common: dict[str, Any] = {"size": run.shape.size, "sets": ALL_SETS, "workers": run.workers}
    common["folder_of_art"] = run.art
    held = combination_scenes(plan.held_out, held_out=True, seed=1)
    write_set(run.work / "held-out", held, **common)
    write_set(run.work / "train", training_scenes(plan.pictures), **common)


def teach_vae(run: Slice, plan: Plan) -> Clock:
    pixels, _ = read_set(run.work / "train", run.shape.size)
    clock = run.clock(plan.vae)
    train_vae.train(
        pixels,
        codec_of(run.work, pixels),
        run.work / "vae.pt",
        clock,
        batch=plan.vae_batch,
        crop=min(run.shape.size, 128),
        device=run.device,
        shape=run.shape,
    )
    return clock


def teach_text(run: Slice, plan: Plan) -> Clock:
    pixels, scenes = read_set(run.work / "train", run.shape.size)
    clock, size = run.clock(plan.text), run.shape.size
    art = Art.load(ALL_SETS, run.art)
    train_text.train(
        encode_set(run.work, pixels),
        scenes,
        tokenizer_of(run.work / "tokenizer"),
        run.work / "text.pt",
        clock,
        batch=plan.text_batch,
        lr=plan.lr,
        device=run.device,
        tokens=run.work / "tokens.npy",
        looks=codes(codec_of(run.work, pixels), art, size, run.shape.text_width),
        shape=run.shape,
    )
    return clock


def teach(run: Slice, plan: Plan, minutes: float) -> Clock:
    """UNet and text encoder, from ``start.pt`` where there is one."""
    pixels, scenes = read_set(run.work / "train", run.shape.size)
    clock = run.clock(minutes)
    diffusion.train(
        encode_set(run.work, pixels),
        scenes,
        tokenizer_of(run.work / "tokenizer"),
        run.work / "diffusion.pt",
        clock,
        batch=plan.batch,
        lr=plan.lr,
        ema_decay=plan.ema,
        device=run.device,
        compiled=plan.compiled,
        start=run.work / "start.pt",
        text=run.work / "text.pt",
        tokens=run.work / "tokens.npy",
        shape=run.shape,
    )
    return clock


def part1(run: Slice, plan: Plan, handover: Path) -> None:
    run.stage("draw", lambda: draw(run, plan))
    run.lesson("vae", lambda: teach_vae(run, plan))
    run.lesson("text", lambda: teach_text(run, plan))
    run.lesson("first", lambda: teach(run, plan, plan.first))
    run.stage("handover", lambda: hand_over(run.work, handover, run.shape))


def part2(run: Slice, plan: Plan, handover: Path, target: Path) -> None:
    run.stage("adopt", lambda: adopt(handover, run.work, run.shape))
    run.stage("draw", lambda: draw(run, plan))
    run.lesson("second", lambda: teach(run, plan, plan.second))
    run.stage("export", lambda: export(run.work, target, shape=run.shape))


def smoke(run: Slice, plan: Plan, budget: float) -> Plan:
    """Measure each stage for some seconds, and plan two parts of ``budget`` minutes by it."""
    minutes = max(1.0, min(20.0, budget)) / 60
    brief = replace(plan, pictures=2_000, held_out=1, vae=minutes, text=minutes)
    # What an earlier call has drawn would count as drawn in no time.
    shutil.rmtree(run.work, ignore_errors=True)
    began = time.monotonic()
    draw(run, brief)
    rates = {"drawn": brief.pictures / (time.monotonic() - began)}
    lessons = (
        ("VAE", plan.vae_batch, teach_vae(run, brief)),
        ("text encoder", plan.text_batch, teach_text(run, brief)),
        ("UNet", plan.batch, teach(run, brief, minutes)),
    )
    rates |= {name: clock.step * batch / clock.spent for name, batch, clock in lessons}
    for name, rate in rates.items():
        print(f"{name}: {rate:.0f} images per second")
    return scaled(plan, rates, budget)


def scaled(plan: Plan, rates: dict[str, float], budget: float) -> Plan:
    """``plan`` for parts of ``budget`` minutes on a machine of these rates.

    A sixth of a part goes into drawing at most, the rest into training. Pictures are 120,000 at most;
    below 20,000 a set repeats itself too often, whatever the machine.
    """
    fits = budget * 60 / 6 * rates["drawn"]
    pictures = int(max(20_000, min(120_000, fits)) if budget >= 5 else max(200, fits))
    left = budget - pictures / rates["drawn"] / 60
    return Plan(
        **asdict(plan)
        | {
            "pictures": pictures,
            "vae": round(0.24 * left, 2),
            "text": round(0.14 * left, 2),
            "first": round(0.56 * left, 2),
            "second": round(0.94 * left, 2),
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
        batches = ("vae_batch", "text_batch", "batch") if args.batch else ()
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
