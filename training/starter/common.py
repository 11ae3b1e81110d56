"""What both training loops share: schedules, seeding, checkpoints that survive a kill."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from training.starter.art import CACHE
from training.starter.models import SHAPES


@dataclass
class Clock:
    """How far a run is: by steps, or by minutes of training where ``minutes`` is set.

    A shared machine's speed can't be planned in steps, a test can't be planned in minutes.
    ``until``, by ``time.monotonic``, ends this process's part of it, from whose checkpoint the next goes on.
    ``spent`` (seconds) goes into checkpoints, so a resumed run ends when it was meant to.
    """

    steps: int
    minutes: float = 0.0
    step: int = 0
    spent: float = 0.0
    until: float = math.inf
    _last: float = field(default_factory=time.monotonic)

    def tick(self) -> None:
        now = time.monotonic()
        self.spent, self._last = self.spent + now - self._last, now
        self.step += 1

    @property
    def progress(self) -> float:
        """0 at the start, 1 or more at the end."""
        return self.spent / 60 / self.minutes if self.minutes else self.step / self.steps

    @property
    def runs(self) -> bool:
        """Whether there is more to do, now."""
        return self.progress < 1 and time.monotonic() < self.until

    def state(self) -> dict[str, float]:
        return {"step": self.step, "spent": self.spent}

    def load(self, state: dict[str, float]) -> None:
        self.step, self.spent = int(state["step"]), float(state["spent"])
        self._last = time.monotonic()


def learning_rate(clock: Clock, peak: float, *, warmup: int, floor: float = 0.02) -> float:
    """Linear warm-up over ``warmup`` steps, then a cosine to ``floor * peak`` at the end."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, clock.progress)))
    return peak * min(1.0, (clock.step + 1) / warmup) * (floor + (1 - floor) * cosine)


def set_learning_rate(
    optimiser: torch.optim.Optimizer, clock: Clock, peak: float, *, warmup: int
) -> None:
    """Give the next step its :func:`learning_rate`."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(clock, peak, warmup=warmup)


def step_generator(seed: int, step: int, device: str = "cpu") -> torch.Generator:
    """All randomness of one step. It depends on the step alone, so resuming needs no state."""
    return torch.Generator(device).manual_seed(seed * 1_000_003 + step)


def computes_in_half(device: str) -> bool:
    """Whether bfloat16 is faster than float32 on ``device``; without its instructions, 100 times slower."""
    cpu_has = torch.backends.cpu.get_cpu_capability() in ("AVX512", "AMX")
    return torch.device(device).type != "cpu" or cpu_has


@contextmanager
def quick_kernels(device: str, *, half: bool) -> Iterator[None]:
    """What is computed inside is computed in bfloat16 if ``half``, and on a CPU with attention by plain products.

    The way back of the CPU's fused attention takes a sixth of a step.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.autocast(device, torch.bfloat16, enabled=half))
        if device == "cpu":
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        yield


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write beside ``path`` and rename: a kill at any time leaves a whole checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def load_checkpoint(path: Path, device: str = "cpu") -> dict[str, Any] | None:
    """The checkpoint at ``path``, or None before the first one."""
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return state


class Every:
    """True once at least ``seconds`` have passed since it was last true."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._last = seconds, time.monotonic()

    def __call__(self) -> bool:
        due = time.monotonic() - self._last >= self._seconds
        if due:
            self._last = time.monotonic()
        return due


def training_parser(doc: str | None) -> argparse.ArgumentParser:
    """The options every training stage has."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--work", type=Path, default=CACHE / "run", help="sets and checkpoints")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=0.0, help="end by time, not by steps")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shape", choices=tuple(SHAPES), default="release")
    parser.add_argument("--size", type=int, help="pixels a side of the set; the shape's own")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: torch decides")
    parser.add_argument("--save-every", type=float, default=60.0, help="seconds")
    return parser
