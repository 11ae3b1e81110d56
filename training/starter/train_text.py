"""Teach the text encoder before the UNet: ``python -m training.starter.train_text --minutes 8``.

Diffusion alone tells a text encoder little: what a word looks like reaches it through noise and all of
the UNet. Here it is told directly. The last 16 tokens of a prompt are padding; on each of them
the encoder learns to say what one of 4 x 4 regions of the picture looks like, so well that a single
linear layer can read the region's latents off it. The UNet then finds a plan of the picture
in the text, which cross-attention has but to put where it belongs. A prompt that fills those tokens
with words is still text: it is only drawn less surely.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from training.starter.art import CACHE, Art
from training.starter.codec import codec_of, encode_set
from training.starter.common import (
    Clock,
    Every,
    computes_in_half,
    load_checkpoint,
    quick_kernels,
    save_checkpoint,
    set_learning_rate,
    step_generator,
    training_parser,
)
from training.starter.looks import codes, word_vectors
from training.starter.models import (
    FACTOR,
    LATENT_CHANNELS,
    RELEASE,
    SHAPES,
    Shape,
    make_text_encoder,
)
from training.starter.render import read_set, sets_of
from training.starter.tokens import tokenizer_of
from training.starter.views import Views, token_table
from training.starter.world import Scene

#: Regions on a side; their square is the number of tokens that the plan takes.
REGIONS = 4
#: What an error where objects stand counts, beside one elsewhere.
_OBJECTS = 2.5


class Planner(nn.Module):
    """A text encoder and the linear layer that reads latents off its last tokens.

    Args:
        side: of the latents.
    """

    def __init__(self, text_encoder: CLIPTextModel, side: int) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.cell = side // REGIONS
        width = int(text_encoder.config.hidden_size)
        self.reader = nn.Linear(width, LATENT_CHANNELS * self.cell**2)

    def forward(self, ids: Tensor) -> Tensor:
        """(n, tokens) to (n, channels, side, side): what the prompt's pictures have in common."""
        return self.read(self.text_encoder(ids).last_hidden_state)

    def read(self, states: Tensor) -> Tensor:
        """The same of the text encoder's output, (n, tokens, width)."""
        read = self.reader(states[:, -(REGIONS**2) :]).transpose(1, 2)
        side = REGIONS * self.cell
        found: Tensor = F.fold(read, (side, side), self.cell, stride=self.cell)
        return found


def make_planner(tokenizer: CLIPTokenizer, shape: Shape = RELEASE) -> Planner:
    """Freshly initialised from torch's global generator."""
    ends = tokenizer.bos_token_id, tokenizer.eos_token_id
    return Planner(make_text_encoder(len(tokenizer), *ends, shape), shape.size // FACTOR)


def emphasis(side: int) -> Tensor:
    """(side, side) weights of a loss, 1 on average: objects stand in the lower middle.

    They are what is hard to learn; the sky around them is right after minutes.
    """
    weights = torch.ones(side, side)
    weights[side * 5 // 16 : side * 15 // 16, side * 3 // 16 : side * 13 // 16] = _OBJECTS
    return weights / weights.mean()


def square_error(found: Tensor, wanted: Tensor) -> Tensor:
    """(n,): mean square error of each of (n, c, side, side), weighted by :func:`emphasis`."""
    weights = emphasis(wanted.shape[-1]).to(wanted.device)
    return ((found.float() - wanted).square() * weights).mean(dim=(1, 2, 3))


def plan_loss(plan: Tensor, latents: Tensor) -> Tensor:
    """The mean of :func:`square_error`."""
    return square_error(plan, latents).mean()


def train(
    latents: NDArray[np.float16],
    scenes: Sequence[Scene],
    tokenizer: CLIPTokenizer,
    checkpoint: Path,
    clock: Clock,
    *,
    batch: int = 64,
    lr: float = 1e-3,
    warmup: int = 100,
    seed: int = 0,
    device: str = "cpu",
    save_every: float = 60.0,
    tokens: Path | None = None,
    looks: Tensor | None = None,
    shape: Shape = RELEASE,
) -> Planner:
    """Train until ``clock`` says so, resuming from ``checkpoint``.

    Args:
        tokens: where the captions' tokens are kept.
        looks: what the objects' words begin with, of :func:`.looks.codes`.
    """
    torch.manual_seed(seed)
    planner = make_planner(tokenizer, shape).to(device).train()
    if looks is not None:
        with torch.no_grad():
            embedding = planner.text_encoder.get_input_embeddings()
            embedding.weight += word_vectors(tokenizer, looks).to(device)
    optimiser = torch.optim.AdamW(
        planner.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    state = load_checkpoint(checkpoint, device)
    if state:
        planner.load_state_dict(state["planner"])
        optimiser.load_state_dict(state["optimiser"])
        clock.load(state["clock"])
    views = Views(latents, token_table(scenes, tokenizer, seed, tokens), tokenizer, device)

    def save() -> None:
        parts = {"planner": planner.state_dict(), "optimiser": optimiser.state_dict()}
        save_checkpoint(checkpoint, parts | {"clock": clock.state()})

    half = computes_in_half(device)
    save_due, log_due, losses = Every(save_every), Every(20), []
    while clock.runs:
        rng = step_generator(seed + 31, clock.step, device)
        clean, ids = views.some(batch, rng)
        set_learning_rate(optimiser, clock, lr, warmup=warmup)
        with quick_kernels(clean.device.type, half=half):
            plan = planner(ids)
        loss = plan_loss(plan, clean)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(planner.parameters(), 1.0)
        optimiser.step()
        clock.tick()
        losses.append(loss.detach())
        if log_due():
            mean, rate = torch.stack(losses).mean().item(), clock.step * batch / clock.spent
            print(f"{clock.step} {clock.spent:.0f}s loss {mean:.4f} {rate:.0f}/s", flush=True)
            losses = []
        if save_due():
            save()
    save()
    return planner.eval()


def main() -> None:
    parser = training_parser(__doc__)
    parser.add_argument("--art", type=Path, default=CACHE, help="what fetch.sh fetched")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    shape = SHAPES[args.shape]
    size = args.size or shape.size
    pixels, scenes = read_set(args.work / "train", size)
    art = Art.load(sets_of(args.work / "train"), args.art)
    train(
        encode_set(args.work, pixels),
        scenes,
        tokenizer_of(args.work / "tokenizer", seed=args.seed),
        args.work / "text.pt",
        Clock(args.steps, args.minutes),
        batch=args.batch,
        lr=args.lr,
        seed=args.seed,
        device=args.device,
        save_every=args.save_every,
        tokens=args.work / "tokens.npy",
        looks=codes(codec_of(args.work, pixels), art, size, shape.text_width),
        shape=shape,
    )


if __name__ == "__main__":
    main()
