"""The judge: a small CNN that names place, time and object of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from training.starter.common import step_generator
from training.starter.words import LIGHT_OF
from training.starter.world import NONE, PLAIN, WORLD, Scene, World

#: Pictures are averaged down to this side: detail a person would not miss should not decide. A few
#: dozen objects are told apart at half of it, some hundred are not.
SIDE = 64
#: Steps of the three strides.
_SHRINK = 8


def heads_of(world: World) -> dict[str, tuple[str, ...]]:
    """What the judge names, with the classes of each; styles and colours where there are any."""
    heads = {
        "place": tuple(world.places),
        "time": tuple(world.times),
        "object": (*world.things, NONE),
    }
    if len(world.styles) > 1:
        heads["style"] = world.styles
    if world.colours:
        heads["colour"] = (*world.colours, "")
    return heads


class Judge(nn.Module):
    """Four convolutions, three of them strided, and a linear head for each question."""

    def __init__(self, world: World, side: int = SIDE) -> None:
        super().__init__()
        self.side, self.classes = side, heads_of(world)
        widths = (3, 32, 64, 96, 128)
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(pairwise(widths)):
            stride = 1 if i == 0 else 2
            layers += [nn.Conv2d(a, b, 3, stride, 1), nn.BatchNorm2d(b), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        width = 128 * (side // _SHRINK) ** 2
        self.heads = nn.ModuleDict({k: nn.Linear(width, len(v)) for k, v in self.classes.items()})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(n, 3, side, side) in [-1, 1] to logits (n, classes) for each head."""
        features = self.features(images)
        return {name: head(features) for name, head in self.heads.items()}

    def features(self, images: Tensor) -> Tensor:
        """(n, 3, side, side) in [-1, 1] to (n, width): what the heads read."""
        found: Tensor = self.body(images).flatten(1)
        return found

    def to_input(self, pixels: NDArray[np.uint8]) -> Tensor:
        """(n, s, s, 3) bytes, s a multiple of the judge's side, to (n, 3, side, side)."""
        images = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
        return F.avg_pool2d(images, images.shape[-1] // self.side)

    def targets(self, scenes: Sequence[Scene]) -> dict[str, Tensor]:
        """Class numbers for each head; -100 (ignored by the loss) where a scene has none."""
        values = {
            "place": [s.place for s in scenes],
            "time": [s.time for s in scenes],
            "object": [s.thing for s in scenes],
            "style": [s.style for s in scenes],
            "colour": [s.colour for s in scenes],
        }
        numbers = {
            head: {c: i for i, c in enumerate(found)} for head, found in self.classes.items()
        }
        return {
            head: torch.tensor([known.get(value, -100) for value in values[head]])
            for head, known in numbers.items()
        }


def train_judge(
    pixels: NDArray[np.uint8],
    scenes: Sequence[Scene],
    world: World = WORLD,
    *,
    side: int = SIDE,
    epochs: int = 2,
    batch: int = 64,
    seed: int = 0,
    device: str = "cpu",
) -> Judge:
    """Train on real renders, slightly shifted, and blurred now and then.

    The blur makes the judge fair to pictures that went through a VAE: it then asks what is in
    the picture, and not whether its edges are those of a renderer.
    """
    torch.manual_seed(seed)
    judge = Judge(world, side).to(device).train()
    labels = {name: t.to(device) for name, t in judge.targets(scenes).items()}
    total = max(2, epochs * (len(scenes) // batch))
    optimiser = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=total)
    for step in range(total):
        rng = step_generator(seed + 7, step)
        which = torch.randint(len(scenes), (batch,), generator=rng)
        images = judge.to_input(pixels[np.sort(which.numpy())]).to(device)
        which = which.sort().values.to(device)
        if torch.rand((), generator=rng) < 0.5:
            soft = F.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
            images = images.lerp(soft, torch.rand((), generator=rng).item())
        dy, dx = torch.randint(-2, 3, (2,), generator=rng).tolist()
        output = judge(images.roll((dy, dx), (2, 3)))
        loss = sum(
            (F.cross_entropy(output[name], labels[name][which]) for name in judge.classes),
            start=torch.zeros((), device=device),
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 200 == 0:
            print(f"judge {step} of {total} loss {loss.item():.3f}", flush=True)
    return judge.eval()


def load_or_train(
    path: Path,
    pixels: NDArray[np.uint8],
    scenes: Sequence[Scene],
    world: World = WORLD,
    *,
    side: int = SIDE,
    epochs: int = 2,
    device: str = "cpu",
) -> Judge:
    """The judge kept at ``path``, trained and kept there the first time."""
    if path.exists():
        judge = Judge(world, side)
        judge.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        return judge.eval()
    judge = train_judge(pixels, scenes, world, side=side, epochs=epochs, device=device).cpu()
    torch.save(judge.state_dict(), path)
    return judge


@torch.no_grad()
def opinions(judge: Judge, pixels: NDArray[np.uint8], chunk: int = 200) -> dict[str, Tensor]:
    """Log-probabilities (n, classes) of each head, and under ``features`` what they were read of."""
    parts = []
    for at in range(0, len(pixels), chunk):
        images = judge.to_input(pixels[at : at + chunk])
        logits = {name: found.log_softmax(dim=1) for name, found in judge(images).items()}
        parts.append({**logits, "features": judge.features(images)})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def verdicts(judge: Judge, seen: dict[str, Tensor], scenes: Sequence[Scene]) -> dict[str, Tensor]:
    """For each head (n,): 1 where it names the scene rightly, 0 where not, NaN where none is asked.

    Time is not scored where captions never say it.
    """
    found = {}
    for name, wanted in judge.targets(scenes).items():
        asked = wanted >= 0
        if name == "time":
            asked &= torch.tensor([s.place not in LIGHT_OF and s.place != PLAIN for s in scenes])
        right = (seen[name].argmax(dim=1) == wanted).float()
        found[name] = right.masked_fill(~asked, torch.nan)
    return found


def accuracy(
    judge: Judge, seen: dict[str, Tensor], scenes: Sequence[Scene], *, shift: int = 0
) -> dict[str, float]:
    """Share of pictures each head names rightly.

    ``shift`` compares each picture with the scene that many places on: the control for a judge
    that a lucky prior could fool.
    """
    right = verdicts(judge, seen, [*scenes[shift:], *scenes[:shift]])
    return {name: round(found.nanmean().item(), 4) for name, found in right.items()}
