"""Train the UNet: ``python -m training.starter.train --minutes 70``.

The text encoder comes from :mod:`.train_text` and learns on with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from diffusers import UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from training.starter.addressing import Addressing
from training.starter.codec import encode_set
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
from training.starter.models import (
    RELEASE,
    SHAPES,
    Shape,
    make_scheduler,
    make_unet,
)
from training.starter.render import read_set
from training.starter.tokens import tokenizer_of
from training.starter.train_text import Planner, make_planner, plan_loss, square_error
from training.starter.views import Views, token_table
from training.starter.world import Scene

#: Steps with less noise than this signal-to-noise ratio count less: they only polish.
SNR_CAP = 5.0
#: What the text encoder's own plan counts: it goes on with what :mod:`.train_text` began.
_PLAN = 0.5
#: What attention to a wrong region's token counts.
_ADDRESSES = 0.05
#: Above 0.5, more steps of the schedule's noisy end are seen, where a picture is laid out.
_NOISY = 0.6
#: Steps that each process takes by itself.
_SHARED_EVERY = 4


class Denoiser(nn.Module):
    """Text encoder, its reader and UNet as one module: token ids and noisy latents to velocity."""

    def __init__(self, unet: UNet2DConditionModel, planner: Planner) -> None:
        super().__init__()
        self.unet = unet
        self.planner = planner
        self.addressing = Addressing(unet)

    @property
    def text_encoder(self) -> CLIPTextModel:
        return self.planner.text_encoder

    def forward(self, noisy: Tensor, steps: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """(n, c, h, w), (n,), (n, tokens) to the velocity and the plan, (n, c, h, w) each."""
        text = self.text_encoder(ids).last_hidden_state
        velocity: Tensor = self.unet(noisy, steps, text, return_dict=False)[0]
        return velocity, self.planner.read(text)


def make_denoiser(tokenizer: CLIPTokenizer, shape: Shape = RELEASE) -> Denoiser:
    """All networks, freshly initialised from torch's global generator."""
    return Denoiser(make_unet(shape), make_planner(tokenizer, shape))


def begin(model: Denoiser, start: Path | None, text: Path | None) -> None:
    """Load all weights from ``start``, or those of the text encoder from ``text``, if there are any."""
    begun = load_checkpoint(start) if start else None
    taught = load_checkpoint(text) if text else None
    if begun:
        model.load_state_dict(begun["model"])
    elif taught:
        model.planner.load_state_dict(taught["planner"])


def velocity_loss(
    model: nn.Module,
    latents: Tensor,
    ids: Tensor,
    alphas: Tensor,
    rng: torch.Generator,
    *,
    half: bool,
) -> Tensor:
    """Weighted v-prediction error of one batch. ``alphas`` is the cumulative product, (1000,).

    Latents, ``alphas`` and ``rng`` are on one device.

    The min-SNR weight would be 0 at the terminal step, where signal is 0 and the network must
    lay out the whole picture, so this form only takes weight away from the low-noise end.
    """
    n = len(latents)
    # One step from each n-th of the schedule: the same expectation, less variance.
    device = latents.device
    places = (torch.arange(n, device=device) + torch.rand(n, generator=rng, device=device)) / n
    places = places ** (1 / _NOISY - 1)
    steps = (places * len(alphas)).long().clamp(max=len(alphas) - 1)
    noise = torch.randn(latents.shape, generator=rng, device=device)
    alpha = alphas[steps].view(-1, 1, 1, 1)
    signal, sigma = alpha.sqrt(), (1 - alpha).sqrt()
    with quick_kernels(latents.device.type, half=half):
        output, plan = model(signal * latents + sigma * noise, steps, ids)
    error = square_error(output, signal * noise - sigma * latents)
    inverse = (1 - alpha).flatten()  # 1 / (snr + 1)
    polish = (SNR_CAP * inverse).clamp(max=1.0)
    return (error * polish).mean() + _PLAN * plan_loss(plan, latents)


class Ema:
    """A running average of the weights; short at first, so early samples are worth a look."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        live = model.state_dict()
        floats = [k for k, v in self.weights.items() if v.is_floating_point()]
        torch._foreach_lerp_(
            [self.weights[k] for k in floats], [live[k] for k in floats], 1 - decay
        )


def share(model: nn.Module, clock: Clock) -> None:
    """Average the weights over the processes of a ``torchrun`` (on the CPU), and take rank 0's time.

    On a busy machine two processes of one thread each are twice as fast as one of two threads: those wait
    for each other at each of a step's thousand small operations. To share every gradient would
    take a third of a step; weights that are averaged after some steps of each learn as well
    (Stich, 2019: local SGD).
    """
    if not dist.is_initialized() or clock.step % _SHARED_EVERY:
        return
    spent = torch.tensor([clock.spent], dtype=torch.float64)
    dist.broadcast(spent, 0)
    clock.spent = spent.item()
    weights = [p.detach() for p in model.parameters()]
    flat = torch.cat([w.flatten() for w in weights])
    dist.all_reduce(flat)
    parts = flat.div_(dist.get_world_size()).split([w.numel() for w in weights])
    for weight, part in zip(weights, parts, strict=True):
        weight.copy_(part.view_as(weight))


def goes_on(clock: Clock) -> bool:
    """Whether there is a next step. Processes ask their clocks where these agree, so that all end at once."""
    return clock.runs or (dist.is_initialized() and clock.step % _SHARED_EVERY != 0)


def train(
    latents: NDArray[np.float16],
    scenes: Sequence[Scene],
    tokenizer: CLIPTokenizer,
    checkpoint: Path,
    clock: Clock,
    *,
    batch: int = 64,
    lr: float = 1e-3,
    warmup: int = 200,
    ema_decay: float = 0.998,
    seed: int = 0,
    device: str = "cpu",
    save_every: float = 90.0,
    compiled: bool = False,
    start: Path | None = None,
    text: Path | None = None,
    tokens: Path | None = None,
    shape: Shape = RELEASE,
) -> Ema:
    """Train until ``clock`` says so, resuming from ``checkpoint``; returns the average.

    Args:
        start: weights to begin with, of an earlier part; None: from nothing.
        text: what ``train_text`` made, where there is no ``start``.
        tokens: where the captions' tokens are kept.
    """
    torch.manual_seed(seed)
    model = make_denoiser(tokenizer, shape).to(device).train()
    begin(model, start, text)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    ema = Ema(model, ema_decay)
    state, pictures = load_checkpoint(checkpoint, device), 0
    if state:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        ema.weights = state["ema"]
        clock.load(state["clock"])
        pictures = int(state.get("pictures", clock.step * batch))
    run = torch.compile(model) if compiled else model
    alphas = make_scheduler().alphas_cumprod.to(device)
    views = Views(latents, token_table(scenes, tokenizer, seed, tokens), tokenizer, device)

    def save() -> None:
        parts: dict[str, Any] = {"model": model.state_dict(), "optimiser": optimiser.state_dict()}
        parts |= {"ema": ema.weights, "clock": clock.state(), "pictures": pictures}
        if rank == 0:
            save_checkpoint(checkpoint, parts)

    half = computes_in_half(device)
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    save_due, log_due, losses = Every(save_every), Every(30), []
    while goes_on(clock):
        rng = step_generator(seed + 101 * rank, clock.step, device)
        clean, ids = views.some(batch, rng)
        set_learning_rate(optimiser, clock, lr, warmup=warmup)
        loss = velocity_loss(run, clean, ids, alphas, rng, half=half)
        astray = model.addressing.loss()
        loss = loss + _ADDRESSES * astray
        optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        # A CPU's bfloat16 kernels answer NaN now and then, for networks of few numbers; one such step
        # would be the end of every weight.
        if norm.isfinite():
            optimiser.step()
        clock.tick()
        share(model, clock)
        ema.update(model, clock.step)
        pictures += batch * world
        losses.append(loss.detach())
        if rank == 0 and log_due():
            mean = torch.stack(losses).mean().item()
            rate = pictures / clock.spent
            print(
                f"{clock.step} {clock.spent:.0f}s loss {mean:.4f} astray {astray:.3f} {rate:.0f}/s",
                flush=True,
            )
            losses = []
        if save_due():
            save()
    save()
    return ema


def main() -> None:
    parser = training_parser(__doc__)
    parser.set_defaults(save_every=90.0)
    parser.add_argument("--ema", type=float, default=0.998)
    parser.add_argument("--pictures", type=int, help="the first so many")
    parser.add_argument("--compile", action="store_true", help="worth it on a GPU")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if dist.is_torchelastic_launched():
        dist.init_process_group("gloo")
    shape = SHAPES[args.shape]
    pixels, scenes = read_set(args.work / "train", args.size or shape.size)
    scenes = scenes[: args.pictures]
    latents = encode_set(args.work, pixels)[: args.pictures]
    train(
        latents,
        scenes,
        tokenizer_of(args.work / "tokenizer", seed=args.seed),
        args.work / "diffusion.pt",
        Clock(args.steps, args.minutes),
        batch=args.batch,
        lr=args.lr,
        ema_decay=args.ema,
        seed=args.seed,
        device=args.device,
        save_every=args.save_every,
        compiled=args.compile,
        start=args.work / "start.pt",
        text=args.work / "text.pt",
        tokens=args.work / "tokens.npy",
        shape=shape,
    )


if __name__ == "__main__":
    main()
