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
from training.starter.world import NONE, OBJECTS, PLACES, PLAIN, TIMES, Scene

HEADS: dict[str, tuple[str, ...]] = {
    "place": tuple(PLACES),
    "time": tuple(TIMES),
    "object": (*OBJECTS, NONE),
}
#: Pictures are averaged down to this side: detail a person would not miss should not decide.
SIDE = 32


class Judge(nn.Module):
    """Four convolutions, three of them strided, and three linear heads."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 64, 96, 128)
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(pairwise(widths)):
            stride = 1 if i == 0 else 2
            layers += [nn.Conv2d(a, b, 3, stride, 1), nn.BatchNorm2d(b), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.heads = nn.ModuleDict({k: nn.Linear(128 * 16, len(v)) for k, v in HEADS.items()})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(n, 3, 32, 32) in [-1, 1] to logits (n, classes) for each head."""
        features = self.body(images).flatten(1)
        return {name: head(features) for name, head in self.heads.items()}


def to_input(pixels: NDArray[np.uint8]) -> Tensor:
    """(n, s, s, 3) bytes, s a multiple of 32, to (n, 3, 32, 32) in [-1, 1]."""
    images = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return F.avg_pool2d(images, images.shape[-1] // SIDE)


def targets(scenes: Sequence[Scene]) -> dict[str, Tensor]:
    """Class numbers for each head; -100 (ignored by the loss) where a scene has none."""

    def number(head: str, value: str) -> int:
        return HEADS[head].index(value) if value in HEADS[head] else -100

    return {
        "place": torch.tensor([number("place", s.place) for s in scenes]),
        "time": torch.tensor([number("time", s.time) for s in scenes]),
        "object": torch.tensor([number("object", s.thing) for s in scenes]),
    }


def train_judge(
    pixels: NDArray[np.uint8],
    scenes: Sequence[Scene],
    *,
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
    judge = Judge().to(device).train()
    labels = {name: t.to(device) for name, t in targets(scenes).items()}
    total = epochs * (len(scenes) // batch)
    optimiser = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=total)
    for step in range(total):
        rng = step_generator(seed + 7, step)
        which = torch.randint(len(scenes), (batch,), generator=rng)
        images = to_input(pixels[np.sort(which.numpy())]).to(device)
        which = which.sort().values.to(device)
        if torch.rand((), generator=rng) < 0.5:
            soft = F.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
            images = images.lerp(soft, torch.rand((), generator=rng).item())
        dy, dx = torch.randint(-2, 3, (2,), generator=rng).tolist()
        output = judge(images.roll((dy, dx), (2, 3)))
        loss = sum(
            (F.cross_entropy(output[name], labels[name][which]) for name in HEADS),
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
    path: Path, pixels: NDArray[np.uint8], scenes: Sequence[Scene], *, device: str = "cpu"
) -> Judge:
    """The judge kept at ``path``, trained and kept there the first time."""
    if path.exists():
        judge = Judge()
        judge.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        return judge.eval()
    judge = train_judge(pixels, scenes, device=device).cpu()
    torch.save(judge.state_dict(), path)
    return judge


@torch.no_grad()
def accuracy(
    judge: Judge, pixels: NDArray[np.uint8], scenes: Sequence[Scene], *, shift: int = 0
) -> dict[str, float]:
    """Share of pictures each head names rightly.

    Time is not scored in space, where captions never say it. ``shift`` compares each picture
    with the scene that many places on: the control for a judge that a lucky prior could fool.
    """
    scenes = [*scenes[shift:], *scenes[:shift]]
    wanted = targets(scenes)
    logits = [judge(to_input(pixels[at : at + 200])) for at in range(0, len(pixels), 200)]
    scores = {}
    for name in HEADS:
        guess = torch.cat([part[name] for part in logits]).argmax(dim=1)
        known = wanted[name] >= 0
        if name == "time":
            known &= torch.tensor([s.place not in ("space", PLAIN) for s in scenes])
        scores[name] = round((guess == wanted[name])[known].float().mean().item(), 4)
    return scores
