"""Train UNet and text encoder together: ``python -m training.starter.train --minutes 70``."""

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

from training.starter.common import (
    Clock,
    Every,
    learning_rate,
    load_checkpoint,
    save_checkpoint,
    step_generator,
    training_parser,
)
from training.starter.latents import encode_set
from training.starter.models import (
    RELEASE,
    SHAPES,
    Shape,
    make_scheduler,
    make_text_encoder,
    make_unet,
)
from training.starter.render import read_set
from training.starter.tokens import train_tokenizer
from training.starter.views import Views, token_table
from training.starter.world import Scene

#: Steps with less noise than this signal-to-noise ratio count less: they only polish.
SNR_CAP = 5.0


class Denoiser(nn.Module):
    """Text encoder and UNet as one module: token ids and noisy latents to velocity."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder

    def forward(self, noisy: Tensor, steps: Tensor, ids: Tensor) -> Tensor:
        """(n, 4, h, w), (n,), (n, tokens) to (n, 4, h, w)."""
        text = self.text_encoder(ids).last_hidden_state
        velocity: Tensor = self.unet(noisy, steps, text, return_dict=False)[0]
        return velocity


def make_denoiser(tokenizer: CLIPTokenizer, shape: Shape = RELEASE) -> Denoiser:
    """Both networks, freshly initialised from torch's global generator."""
    ends = tokenizer.bos_token_id, tokenizer.eos_token_id
    return Denoiser(make_unet(shape), make_text_encoder(len(tokenizer), *ends, shape))


def velocity_loss(
    model: nn.Module,
    latents: Tensor,
    ids: Tensor,
    alphas: Tensor,
    rng: torch.Generator,
    *,
    autocast: bool,
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
    steps = (places * len(alphas)).long().clamp(max=len(alphas) - 1)
    noise = torch.randn(latents.shape, generator=rng, device=device)
    alpha = alphas[steps].view(-1, 1, 1, 1)
    signal, sigma = alpha.sqrt(), (1 - alpha).sqrt()
    with torch.autocast(latents.device.type, torch.bfloat16, enabled=autocast):
        output = model(signal * latents + sigma * noise, steps, ids)
    error = (output.float() - (signal * noise - sigma * latents)).square().mean(dim=(1, 2, 3))
    inverse = (1 - alpha).flatten()  # 1 / (snr + 1)
    return (error * (SNR_CAP * inverse).clamp(max=1.0)).mean()


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


def share_clock(clock: Clock) -> None:
    """Take rank 0's time, so that all processes have one learning rate and stop together."""
    if not dist.is_initialized():
        return
    spent = torch.tensor([clock.spent], dtype=torch.float64)
    dist.broadcast(spent, 0)
    clock.spent = spent.item()


def share_gradients(model: nn.Module) -> None:
    """Average gradients over the processes of a ``torchrun`` (on the CPU).

    On a busy machine two processes of one thread each are twice as fast as one of two threads:
    those wait for each other at each of a step's thousand small operations.
    """
    if not dist.is_initialized():
        return
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    parts = (flat / dist.get_world_size()).split([g.numel() for g in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


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
    autocast: bool = True,
    compiled: bool = False,
    start: Path | None = None,
    tokens: Path | None = None,
    shape: Shape = RELEASE,
) -> Ema:
    """Train until ``clock`` says so, resuming from ``checkpoint``; returns the average.

    Args:
        start: weights to begin with, of an earlier part; None: from nothing.
        tokens: where the captions' tokens are kept.
    """
    torch.manual_seed(seed)
    model = make_denoiser(tokenizer, shape).to(device).train()
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    begun = load_checkpoint(start, device) if start else None
    if begun:
        model.load_state_dict(begun["model"])
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

    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    save_due, log_due, losses = Every(save_every), Every(30), []
    while clock.runs:
        rng = step_generator(seed + 101 * rank, clock.step, device)
        clean, ids = views.some(batch, rng)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(clock, lr, warmup=warmup)
        loss = velocity_loss(run, clean, ids, alphas, rng, autocast=autocast)
        optimiser.zero_grad()
        loss.backward()
        share_gradients(model)
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        # A CPU's bfloat16 kernels answer NaN now and then, for networks of few numbers; one such step
        # would be the end of every weight.
        if norm.isfinite():
            optimiser.step()
        clock.tick()
        share_clock(clock)
        ema.update(model, clock.step)
        pictures += batch * world
        losses.append(loss.detach())
        if rank == 0 and log_due():
            mean = torch.stack(losses).mean().item()
            rate = pictures / clock.spent
            print(f"{clock.step} {clock.spent:.0f}s loss {mean:.4f} {rate:.0f}/s", flush=True)
            losses = []
        if save_due():
            save()
    save()
    return ema


def main() -> None:
    parser = training_parser(__doc__)
    parser.set_defaults(save_every=90.0)
    parser.add_argument("--ema", type=float, default=0.998)
    parser.add_argument("--pictures", type=int, help="the first so many; encoding takes time")
    parser.add_argument("--compile", action="store_true", help="worth it on a GPU")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if dist.is_torchelastic_launched():
        dist.init_process_group("gloo")
    shape = SHAPES[args.shape]
    pixels, scenes = read_set(args.work / "train", args.size or shape.size)
    pixels, scenes = pixels[: args.pictures], scenes[: args.pictures]
    latents = encode_set(args.work, pixels, device=args.device, shape=shape)
    train(
        latents,
        scenes,
        train_tokenizer(args.work / "tokenizer", seed=args.seed),
        args.work / "diffusion.pt",
        Clock(args.steps, args.minutes),
        batch=args.batch,
        lr=args.lr,
        ema_decay=args.ema,
        seed=args.seed,
        device=args.device,
        save_every=args.save_every,
        compiled=args.compile,
        tokens=args.work / "tokens.npy",
        shape=shape,
    )


if __name__ == "__main__":
    main()
